_base_ = [
    '../../_base_/models/resnet50_upernet-seg.py',
    '../../_base_/datasets/ade20k_512x512.py',
    '../../_base_/schedules/seg_sgd-160k_b16.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='work_dirs/exports/semcl-ade_resnet50.pth'),
    ),
)
default_hooks = dict(checkpoint=dict(interval=16000))
benchmark = dict(
    protocol='semcl-ade20k-upernet-160k-sgd',
    dataset='ADE20K',
    split='val',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-ADE',
        config='semcl-ade_resnet50_4xb16-amp-30k_semcl-ade',
    ),
)
