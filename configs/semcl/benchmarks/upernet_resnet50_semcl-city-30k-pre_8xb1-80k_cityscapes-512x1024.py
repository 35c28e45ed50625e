_base_ = [
    '../../_base_/models/resnet50_upernet-seg.py',
    '../../_base_/datasets/cityscapes_512x1024.py',
    '../../_base_/schedules/seg_sgd-80k_b8.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    backbone=dict(
        init_cfg=dict(checkpoint='work_dirs/exports/semcl-city_resnet50.pth'),
    ),
    decode_head=dict(num_classes=19),
    auxiliary_head=dict(num_classes=19),
)
default_hooks = dict(checkpoint=dict(interval=8000))
benchmark = dict(
    protocol='semcl-cityscapes-upernet-80k-sgd',
    dataset='Cityscapes',
    split='val',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-City',
        config='semcl-city_resnet50_4xb16-amp-30k_semcl-city',
    ),
)
