_base_ = [
    '../../_base_/models/swin-base-w7_upernet-seg.py',
    '../../_base_/datasets/coco-stuff164k_512x512.py',
    '../../_base_/schedules/seg_adamw-160k_b16.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/semcl-coco_swin-base-w7.pth'
        ),
    ),
    decode_head=dict(num_classes=171),
    auxiliary_head=dict(num_classes=171),
)
default_hooks = dict(checkpoint=dict(interval=16000))
benchmark = dict(
    protocol='semcl-coco-stuff164k-upernet-160k-adamw',
    dataset='COCO 2017',
    split='val',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-COCO',
        config='semcl-coco_swin-base-w7_4xb16-amp-30k_semcl-coco',
    ),
)
