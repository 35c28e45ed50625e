_base_ = [
    './mask-rcnn_vit-small-p16_selfpatch-dino-200e-pre_8xb1-amp-12e_coco.py'
]

model = dict(
    backbone=dict(
        with_cls_token=True,
        init_cfg=dict(checkpoint='work_dirs/exports/dino_vit-small-p16.pth'),
    ),
)
benchmark = dict(
    pretraining=dict(
        method='DINO',
        epochs=300,
        config='dino_vit-small-p16_8xb128-amp-coslr-300e_in1k',
    )
)
