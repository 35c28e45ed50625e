_base_ = [
    '../../_base_/models/swin-small-w7_upernet-seg.py',
    '../../_base_/datasets/voc12aug_512x512.py',
    '../../_base_/schedules/seg_adamw-40k_b16.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/semcl-voc_swin-small-w7.pth'
        ),
    ),
    decode_head=dict(num_classes=21),
    auxiliary_head=dict(num_classes=21),
)
default_hooks = dict(checkpoint=dict(interval=4000))
benchmark = dict(
    protocol='semcl-voc12aug-upernet-40k-adamw',
    dataset='VOC2012',
    split='val',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-VOC',
        config='semcl-voc_swin-small-w7_4xb16-amp-30k_semcl-voc',
    ),
)
