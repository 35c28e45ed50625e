# DINO baseline of Table 1: the official backbone file.
_base_ = [
    './linear_vit-small-p16_local-global-300e-pre_8xb2-64e_ade20k-512x512.py'
]

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='checkpoints/dino_deitsmall16_pretrain.pth')
    )
)
benchmark = dict(
    pretraining=dict(
        _delete_=True,
        method='DINO',
        data='ImageNet-1k',
        weights='dino_vit-small-p16',
    )
)
