_base_ = [
    '../../_base_/models/vit-small-p16_uper-depth.py',
    '../../_base_/datasets/nyu_bts_h5.py',
    '../../_base_/schedules/nyu_adam_50e.py',
    '../../_base_/default_runtime.py',
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
