_base_ = [
    '../../_base_/models/vit-small-p16_upernet-seg.py',
    '../../_base_/datasets/ade20k_512x512.py',
    '../../_base_/schedules/ade20k_adamw-64e_b16.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    backbone=dict(
        arch='deit-tiny',
        init_cfg=dict(
            checkpoint='work_dirs/exports/local-global_vit-tiny-p16.pth'
        ),
    ),
    neck=dict(embed_dim=192),
    decode_head=dict(in_channels=[192, 192, 192, 192], channels=192),
    auxiliary_head=dict(in_channels=192),
)
