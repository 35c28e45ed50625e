_base_ = [
    '../../_base_/models/swin-base-w7_upernet-seg.py',
    '../../_base_/datasets/cityscapes_512x1024.py',
    '../../_base_/schedules/seg_adamw-80k_b8.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/semcl-city_swin-base-w7.pth'
        ),
    ),
    decode_head=dict(num_classes=19),
    auxiliary_head=dict(num_classes=19),
)
default_hooks = dict(checkpoint=dict(interval=8000))
benchmark = dict(
    protocol='semcl-cityscapes-upernet-80k-adamw',
    dataset='Cityscapes',
    split='val',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-City',
        config='semcl-city_swin-base-w7_4xb16-amp-30k_semcl-city',
    ),
)
