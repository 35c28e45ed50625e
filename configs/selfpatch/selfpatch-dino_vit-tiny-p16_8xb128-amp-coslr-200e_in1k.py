_base_ = ['./selfpatch-dino_vit-small-p16_8xb128-amp-coslr-200e_in1k.py']

model = dict(
    method=dict(
        backbone=dict(arch='deit-tiny'),
        neck=dict(in_channels=192),
    ),
    aggregation=dict(embed_dims=192, num_heads=3),
    patch_head=dict(in_channels=192),
)
