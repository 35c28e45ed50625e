# Up-projection head on the demo rooms: about three minutes on two CPU cores.
# --cfg-options model.backbone.init_cfg.checkpoint=EXPORTED.pth
_base_ = [
    '../../_base_/models/vit-small-p16_upproj-depth.py',
    '../../_base_/datasets/rooms_depth.py',
    '../../_base_/schedules/rooms_adamw_b8.py',
    '../../_base_/depth_runtime.py',
]

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=192,
            num_layers=6,
            num_heads=3,
            feedforward_channels=768,
        ),
        img_size=160,
        out_indices=[5],
    ),
    decode_head=dict(
        in_channels=192, channels=[128, 64, 32, 16], init_depth=3.0
    ),
)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=20, save_best='depth/abs_rel', rule='less'),
)
benchmark = dict(
    protocol='local-global-demo-upproj-20e',
    dataset='mmdense demo rooms',
    split='val',
    pretraining=dict(
        method='LocalGlobal',
        epochs=70,
        data='mmdense demo images',
        config='local-global_vit-demo-p16_1xb32-coslr-70e_demo-96px',
    ),
)
