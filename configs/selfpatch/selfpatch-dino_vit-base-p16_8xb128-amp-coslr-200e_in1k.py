_base_ = ['./selfpatch-dino_vit-small-p16_8xb128-amp-coslr-200e_in1k.py']

model = dict(
    method=dict(
        backbone=dict(arch='deit-base'),
        neck=dict(in_channels=768),
    ),
    aggregation=dict(embed_dims=768, num_heads=12),
    patch_head=dict(in_channels=768),
)
