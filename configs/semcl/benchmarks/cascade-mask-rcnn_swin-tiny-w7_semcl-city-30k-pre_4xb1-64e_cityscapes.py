_base_ = [
    '../../_base_/models/swin-tiny-w7_cascade-mask-rcnn_cityscapes.py',
    '../../_base_/datasets/cityscapes_instance.py',
    '../../_base_/schedules/cityscapes_adamw-64e_b8.py',
    '../../_base_/det_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/semcl-city_swin-tiny-w7.pth'
        ),
    ),
)
benchmark = dict(
    protocol='semcl-cityscapes-cascade-mask-rcnn-64e-adamw',
    dataset='Cityscapes',
    split='val',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-City',
        config='semcl-city_swin-tiny-w7_4xb16-amp-30k_semcl-city',
    ),
)
