# Recipe of the depth toolbox: metres from the start, weights of 224 pixels.
_base_ = [
    '../../_base_/models/vit-base-p16_dpt-depth.py',
    '../../_base_/datasets/nyu_bts_list.py',
    '../../_base_/schedules/depth_onecycle-24e_b16.py',
    '../../_base_/depth_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='checkpoints/vit_base_patch16_224.augreg.pth'
        ),
    ),
    decode_head=dict(
        output='relu_min',
        min_depth=1e-3,
        max_depth=10.0,
        valid_range=(1e-3, 10.0),
        loss_decode=dict(
            _delete_=True,
            type='mmdense.SILogLoss',
            variant='toolbox',
            warm_up_iters=100,
        ),
    ),
    test_cfg=dict(flip=True, interpolation='bilinear'),
)
default_hooks = dict(
    checkpoint=dict(save_best='nyu_eigen/abs_rel', rule='less'),
)
benchmark = dict(
    protocol='depth-toolbox-nyu-dpt-24e',
    dataset='NYU Depth V2',
    split='test 654',
    pretraining=dict(
        method='Supervised (AugReg)',
        data='ImageNet-21k, ImageNet-1k',
        weights='augreg_vit-base-p16',
    ),
)
