_base_ = [
    '../../_base_/models/vit-small-p16_upproj-depth.py',
    '../../_base_/datasets/nyu_bts_h5.py',
    '../../_base_/schedules/nyu_adam_50e.py',
    '../../_base_/depth_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/local-global_vit-small-p16.pth'
        ),
    ),
)
default_hooks = dict(
    checkpoint=dict(save_best='nyu_eigen/abs_rel', rule='less'),
)
benchmark = dict(
    protocol='local-global-nyu-bts-upproj-50e',
    dataset='NYU Depth V2',
    split='test 654',
    pretraining=dict(
        method='LocalGlobal',
        epochs=300,
        data='ImageNet-1k',
        config='local-global_vit-small-p16_16xb128-amp-coslr-300e_in1k',
    ),
)
