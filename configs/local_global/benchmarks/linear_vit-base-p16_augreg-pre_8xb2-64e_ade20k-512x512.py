# Supervised baseline of Table 1: timm's AugReg weights, which expect inputs
# normalised with mean and standard deviation 0.5.
_base_ = [
    './linear_vit-base-p16_local-global-300e-pre_8xb2-64e_ade20k-512x512.py'
]

model = dict(
    data_preprocessor=dict(
        mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]
    ),
    backbone=dict(
        init_cfg=dict(checkpoint='checkpoints/vit_base_patch16_224.augreg.pth')
    ),
)
benchmark = dict(
    pretraining=dict(
        _delete_=True,
        method='Supervised (AugReg)',
        data='ImageNet-21k, ImageNet-1k',
        weights='augreg_vit-base-p16',
    )
)
