_base_ = [
    '../../_base_/models/resnet50_cascade-mask-rcnn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_20e.py',
    '../../_base_/det_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='work_dirs/exports/semcl-coco_resnet50.pth'),
    ),
)
train_dataloader = dict(num_workers=4)
benchmark = dict(
    protocol='semcl-coco-cascade-mask-rcnn-20e-sgd',
    dataset='COCO 2017',
    split='val2017',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-COCO',
        config='semcl-coco_resnet50_4xb16-amp-30k_semcl-coco',
    ),
)
