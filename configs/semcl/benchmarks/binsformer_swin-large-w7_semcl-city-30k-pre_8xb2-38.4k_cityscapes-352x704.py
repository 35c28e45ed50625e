_base_ = [
    '../../_base_/models/swin-large-w7_binsformer.py',
    '../../_base_/datasets/cityscapes_depth.py',
    '../../_base_/schedules/depth_onecycle-38.4k_b16.py',
    '../../_base_/depth_iter_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/semcl-city_swin-large-w7.pth'
        ),
    ),
    decode_head=dict(
        max_depth=200.0,
        valid_range=(1e-3, 200.0),
    ),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    sampler=dict(type='InfiniteSampler', shuffle=True),
)
default_hooks = dict(
    checkpoint=dict(
        interval=6400, save_best='cityscapes_garg_200/abs_rel', rule='less'
    )
)
benchmark = dict(
    protocol='semcl-cityscapes-binsformer-38.4k',
    dataset='Cityscapes',
    split='val',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-City',
        config='semcl-city_swin-large-w7_4xb8-amp-30k_semcl-city',
    ),
)
