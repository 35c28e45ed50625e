# First of two stages of relative training.
_base_ = [
    '../_base_/models/vit-hybrid-p16_dpt-depth.py',
    '../_base_/datasets/mix3_relative.py',
    '../_base_/schedules/dpt_adam-60e_b16.py',
    '../_base_/depth_iter_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='checkpoints/jx_vit_base_resnet50_384-9fd3c705.pth'
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
        weights='vit-in21k-384_vit-hybrid-p16',
    ),
)
