_base_ = [
    './uper-depth_vit-small-p16_local-global-300e-pre_1xb16-50e_nyu-bts-416x544.py'  # noqa: E501
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
)
benchmark = dict(
    pretraining=dict(
        config='local-global_vit-tiny-p16_16xb128-amp-coslr-300e_in1k'
    )
)
