# DPT decoder on the maps of a Swin; minutes on two CPU cores.
# model.backbone.init_cfg.checkpoint names the backbone to start from.
_base_ = [
    '../../_base_/models/vit-base-p16_dpt-depth.py',
    '../../_base_/datasets/rooms_depth.py',
    '../../_base_/schedules/rooms_adamw_b8.py',
    '../../_base_/depth_runtime.py',
]

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        _delete_=True,
        type='mmdense.SwinTransformer',
        arch=dict(
            embed_dims=48,
            depths=(2, 2, 2, 2),
            num_heads=(2, 4, 8, 16),
        ),
        img_size=160,
        window_size=3,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.0,
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    decode_head=dict(
        in_channels=[48, 96, 192, 384],
        levels=['map', 'map', 'map', 'map'],
        reassemble_channels=None,
        channels=64,
        output='sigmoid_range',
        min_depth=0.0,
        max_depth=10.0,
        init_depth=3.0,
        loss_decode=dict(
            _delete_=True, type='mmdense.SILogLoss', variant='toolbox'
        ),
    ),
    test_cfg=dict(interpolation='bilinear'),
)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=20, save_best='depth/abs_rel', rule='less'),
)
benchmark = dict(
    protocol='dpt-demo-swin-20e',
    dataset='mmdense demo rooms',
    split='val',
    pretraining=dict(
        method='MoBY',
        epochs=30,
        data='mmdense demo images',
        config='moby_swin-demo-w3_1xb16-coslr-30e_demo-96px',
    ),
)
