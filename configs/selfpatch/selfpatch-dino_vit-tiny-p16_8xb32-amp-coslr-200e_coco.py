# The ablations of the paper start from here: 3x3 neighbours, k = 4, class
# attention, weight 0.1.
_base_ = [
    '../_base_/models/vit-small-p16_selfpatch-dino.py',
    '../_base_/datasets/coco_multi_crop.py',
    '../_base_/schedules/dino_adamw_coslr-200e_256.py',
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
