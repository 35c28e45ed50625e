_base_ = [
    '../../_base_/models/vit-small-p16_semantic-fpn.py',
    '../../_base_/datasets/ade20k_512x512.py',
    '../../_base_/schedules/ade20k_adamw-40k_b32.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/selfpatch-dino_vit-small-p16.pth'
        ),
    ),
)
train_dataloader = dict(batch_size=4)
default_hooks = dict(checkpoint=dict(interval=4000))
benchmark = dict(
    protocol='selfpatch-ade20k-semantic-fpn-40k',
    dataset='ADE20K',
    split='val',
    pretraining=dict(
        method='DINO + SelfPatch',
        epochs=200,
        data='ImageNet-1k',
        config='selfpatch-dino_vit-small-p16_8xb128-amp-coslr-200e_in1k',
    ),
)
