_base_ = [
    './mask-rcnn_vit-small-p16_selfpatch-dino-200e-pre_8xb1-amp-12e_coco.py'
]

model = dict(
    backbone=dict(
        with_cls_token=True,
        init_cfg=dict(
            checkpoint='checkpoints/moby_deit_small_300ep_pretrained.pth'
        ),
    ),
)
benchmark = dict(
    pretraining=dict(
        _delete_=True,
        method='MoBY',
        epochs=300,
        data='ImageNet-1k',
        weights='moby-300e_vit-small-p16',
    )
)
