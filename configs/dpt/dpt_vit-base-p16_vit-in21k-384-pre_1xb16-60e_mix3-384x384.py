# First of two stages of relative training, on the three sets of the ablation.
_base_ = [
    '../_base_/models/vit-base-p16_dpt-depth.py',
    '../_base_/datasets/mix3_relative.py',
    '../_base_/schedules/dpt_adam-60e_b16.py',
    '../_base_/depth_iter_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='checkpoints/jx_vit_base_p16_384-83fb41ba.pth'
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
        method='Supervised (ViT)',
        data='ImageNet-21k, ImageNet-1k',
        weights='vit-in21k-384_vit-base-p16',
    ),
)
