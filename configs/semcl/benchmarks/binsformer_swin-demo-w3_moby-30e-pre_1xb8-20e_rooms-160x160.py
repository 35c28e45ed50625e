# BinsFormer on Swin on the demo rooms; minutes on two CPU cores.
# model.backbone.init_cfg.checkpoint names the backbone to start from.
_base_ = [
    '../../_base_/models/swin-tiny-w7_binsformer.py',
    '../../_base_/datasets/rooms_depth.py',
    '../../_base_/schedules/rooms_adamw_b8.py',
    '../../_base_/depth_runtime.py',
]

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=48,
            depths=(2, 2, 2, 2),
            num_heads=(2, 4, 8, 16),
        ),
        img_size=160,
        window_size=3,
        drop_path_rate=0.0,
    ),
    decode_head=dict(
        in_channels=[48, 96, 192, 384],
        channels=64,
        num_queries=32,
        encoder=dict(num_layers=2, feedforward_channels=128),
        decoder=dict(feedforward_channels=128),
    ),
)
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=20, save_best='depth/abs_rel', rule='less'),
)
benchmark = dict(
    protocol='semcl-demo-binsformer-20e',
    dataset='mmdense demo rooms',
    split='val',
    pretraining=dict(
        method='MoBY',
        epochs=30,
        data='mmdense demo images',
        config='moby_swin-demo-w3_1xb16-coslr-30e_demo-96px',
    ),
)
