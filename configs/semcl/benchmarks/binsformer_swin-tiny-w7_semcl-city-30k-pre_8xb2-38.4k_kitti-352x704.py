_base_ = [
    '../../_base_/models/swin-tiny-w7_binsformer.py',
    '../../_base_/datasets/kitti_eigen.py',
    '../../_base_/schedules/depth_onecycle-38.4k_b16.py',
    '../../_base_/depth_iter_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/semcl-city_swin-tiny-w7.pth'
        ),
    ),
    decode_head=dict(
        max_depth=80.0,
        valid_range=(1e-3, 80.0),
    ),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    sampler=dict(type='InfiniteSampler', shuffle=True),
)
default_hooks = dict(
    checkpoint=dict(interval=6400, save_best='kitti_garg/abs_rel', rule='less')
)
benchmark = dict(
    protocol='semcl-kitti-binsformer-38.4k',
    dataset='KITTI',
    split='Eigen test',
    pretraining=dict(
        method='SemCL',
        iterations=30000,
        data='SemCL-City',
        config='semcl-city_swin-tiny-w7_4xb16-amp-30k_semcl-city',
    ),
)
