# Table 8: a second extra token; the readout takes the class token alone.
_base_ = [
    '../dpt_vit-base-p16_vit-in21k-384-pre_1xb16-60e_mix3-384x384.py'  # noqa: E501
]

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='mmdense.DistilledVisionTransformer',
        init_cfg=dict(
            checkpoint='checkpoints/deit_base_distilled_patch16_384-d0272ac0.pth'
        ),
    ),
)
benchmark = dict(
    pretraining=dict(
        method='Supervised (DeiT, distilled)',
        data='ImageNet-1k',
        weights='deit_deit-base-distilled-p16',
    )
)
