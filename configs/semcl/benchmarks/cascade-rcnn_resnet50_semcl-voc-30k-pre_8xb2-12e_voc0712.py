_base_ = [
    '../../_base_/models/resnet50_cascade-rcnn_voc.py',
    '../../_base_/datasets/voc0712.py',
    '../../_base_/schedules/voc0712_sgd-12e_b16.py',
    '../../_base_/det_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='work_dirs/exports/semcl-voc_resnet50.pth'),
    ),
)
default_hooks = dict(checkpoint=dict(save_best='pascal_voc/mAP'))
benchmark = dict(
    protocol='semcl-voc0712-cascade-rcnn-12e-sgd',
    dataset='VOC2007',
    split='test',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-VOC',
        config='semcl-voc_resnet50_4xb16-amp-30k_semcl-voc',
    ),
)
