_base_ = [
    '../../_base_/models/resnet50_binsformer.py',
    '../../_base_/datasets/nyu_bts_list.py',
    '../../_base_/schedules/depth_onecycle-38.4k_b16.py',
    '../../_base_/depth_iter_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='work_dirs/exports/semcl-ade_resnet50.pth'),
    ),
    decode_head=dict(
        max_depth=10.0,
        valid_range=(1e-3, 10.0),
        # kinds of rooms, read from the names of the folders
        scene_classes=25,
    ),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    sampler=dict(type='InfiniteSampler', shuffle=True),
)
default_hooks = dict(
    checkpoint=dict(interval=6400, save_best='nyu_eigen/abs_rel', rule='less')
)
benchmark = dict(
    protocol='semcl-nyu-binsformer-38.4k',
    dataset='NYU Depth V2',
    split='test 654',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-ADE',
        config='semcl-ade_resnet50_4xb16-amp-30k_semcl-ade',
    ),
)
