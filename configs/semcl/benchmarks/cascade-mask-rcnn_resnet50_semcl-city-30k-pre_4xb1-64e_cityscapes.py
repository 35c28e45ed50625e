_base_ = [
    '../../_base_/models/resnet50_cascade-mask-rcnn_cityscapes.py',
    '../../_base_/datasets/cityscapes_instance.py',
    '../../_base_/schedules/cityscapes_sgd-64e_b8.py',
    '../../_base_/det_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='work_dirs/exports/semcl-city_resnet50.pth'),
    ),
)
benchmark = dict(
    protocol='semcl-cityscapes-cascade-mask-rcnn-64e-sgd',
    dataset='Cityscapes',
    split='val',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-City',
        config='semcl-city_resnet50_4xb16-amp-30k_semcl-city',
    ),
)
