# 12 heads, as pre-trained.
_base_ = [
    './semantic-fpn_vit-small-p16_selfpatch-dino-200e-pre_8xb4-40k_ade20k-512x512.py'
]

model = dict(
    backbone=dict(
        arch='mocov3-small',
        with_cls_token=True,
        init_cfg=dict(checkpoint='checkpoints/vit-s-300ep.pth.tar'),
    ),
)
benchmark = dict(
    pretraining=dict(
        _delete_=True,
        method='MoCo-v3',
        epochs=300,
        data='ImageNet-1k',
        weights='mocov3-300e_vit-small-p16',
    )
)
