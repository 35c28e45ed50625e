_base_ = [
    '../../_base_/models/swin-tiny-w7_upernet-seg.py',
    '../../_base_/datasets/ade20k_512x512.py',
    '../../_base_/schedules/seg_adamw-160k_b16.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/semcl-ade_swin-tiny-w7.pth'
        ),
    ),
)
default_hooks = dict(checkpoint=dict(interval=16000))
benchmark = dict(
    protocol='semcl-ade20k-upernet-160k-adamw',
    dataset='ADE20K',
    split='val',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-ADE',
        config='semcl-ade_swin-tiny-w7_4xb16-amp-30k_semcl-ade',
    ),
)
