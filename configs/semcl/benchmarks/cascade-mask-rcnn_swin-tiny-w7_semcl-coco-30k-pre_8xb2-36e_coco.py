_base_ = [
    '../../_base_/models/swin-tiny-w7_cascade-mask-rcnn.py',
    '../../_base_/datasets/coco_instance_ms-crop.py',
    '../../_base_/schedules/coco_adamw-36e_b16.py',
    '../../_base_/det_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/semcl-coco_swin-tiny-w7.pth'
        ),
    ),
)
benchmark = dict(
    protocol='semcl-coco-cascade-mask-rcnn-36e-adamw',
    dataset='COCO 2017',
    split='val2017',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-COCO',
        config='semcl-coco_swin-tiny-w7_4xb16-amp-30k_semcl-coco',
    ),
)
