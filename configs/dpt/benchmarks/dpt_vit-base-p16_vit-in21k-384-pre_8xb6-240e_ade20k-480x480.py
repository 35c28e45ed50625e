# ADE20K; the published numbers are those of several scales: test with --tta.
_base_ = [
    '../../_base_/models/vit-base-p16_dpt-seg.py',
    '../../_base_/datasets/ade20k_480x480.py',
    '../../_base_/schedules/ade20k_sgd-240e_b48.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='checkpoints/jx_vit_base_p16_384-83fb41ba.pth'
        ),
    ),
)
default_hooks = dict(checkpoint=dict(interval=10105))
benchmark = dict(
    protocol='dpt-ade20k-240e-tta',
    dataset='ADE20K',
    split='val',
    tta=True,
    pretraining=dict(
        method='Supervised (ViT)',
        data='ImageNet-21k, ImageNet-1k',
        weights='vit-in21k-384_vit-base-p16',
    ),
)
