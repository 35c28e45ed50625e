_base_ = [
    '../_base_/models/vit-small-p16_selfpatch-moby.py',
    '../_base_/datasets/coco_moby_two_view.py',
    '../_base_/schedules/moby_adamw_coslr-200e_256.py',
    '../_base_/selfpatch_runtime.py',
]

model = dict(
    method=dict(
        backbone=dict(arch='deit-tiny'),
        neck=dict(in_channels=192),
    ),
    aggregation=dict(embed_dims=192, num_heads=3),
    patch_head=dict(in_channels=192),
)
