_base_ = [
    './uper-depth_vit-small-p16_local-global-300e-pre_1xb16-50e_nyu-fastdepth-224x224.py'  # noqa: E501
]

model = dict(
    backbone=dict(
        arch='deit-base',
        init_cfg=dict(
            checkpoint='work_dirs/exports/local-global_vit-base-p16.pth'
        ),
    ),
    neck=dict(embed_dim=768),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=768),
)
benchmark = dict(
    pretraining=dict(
        config='local-global_vit-base-p16_16xb128-amp-coslr-300e_in1k'
    )
)
