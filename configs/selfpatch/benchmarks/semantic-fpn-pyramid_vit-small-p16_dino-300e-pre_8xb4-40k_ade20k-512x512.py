_base_ = [
    './semantic-fpn-pyramid_vit-small-p16_selfpatch-dino-200e-pre_8xb4-40k_ade20k-512x512.py'
]

model = dict(
    backbone=dict(
        with_cls_token=True,
        init_cfg=dict(
            checkpoint='checkpoints/model_final_checkpoint_phase299.torch'
        ),
    ),
)
benchmark = dict(
    pretraining=dict(
        _delete_=True,
        method='DINO',
        epochs=300,
        data='ImageNet-1k',
        weights='dino-300e_vit-small-p16',
    )
)
