# Table 8: the same network from the weights of DeiT.
_base_ = [
    '../dpt_vit-base-p16_vit-in21k-384-pre_1xb16-60e_mix3-384x384.py'  # noqa: E501
]

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        init_cfg=dict(
            checkpoint='checkpoints/deit_base_patch16_384-8de9b5d1.pth'
        ),
    ),
)
benchmark = dict(
    pretraining=dict(
        method='Supervised (DeiT)',
        data='ImageNet-1k',
        weights='deit_deit-base-p16',
    )
)
