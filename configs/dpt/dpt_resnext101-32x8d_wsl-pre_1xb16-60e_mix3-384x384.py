# MiDaS retrained: first stage, see the siblings.
_base_ = [
    '../_base_/models/resnext101-32x8d_dpt-depth.py',
    '../_base_/datasets/mix3_relative.py',
    '../_base_/schedules/dpt_adam-60e_b16.py',
    '../_base_/depth_iter_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='checkpoints/ig_resnext101_32x8-c38310e5.pth'
        ),
    ),
)
default_hooks = dict(
    checkpoint=dict(
        save_best='affine_ablation/mean/abs_rel_dev_after_affine_alignment',
        rule='less',
    ),
)
benchmark = dict(
    protocol='dpt-relative-mix3-60e',
    dataset={
        'HRWSI': 'hrwsi',
        'BlendedMVS': 'blendedmvs',
        'ReDWeb': 'redweb',
        'mean of three': 'mean',
    },
    split='val',
    pretraining=dict(
        method='Weakly supervised (WSL)',
        data='Instagram, ImageNet-1k',
        weights='wsl_resnext101-32x8d',
    ),
)
