# Depth of the demo rooms: about two minutes on two CPU cores. Without a
# checkpoint it starts from random weights:
# --cfg-options model.backbone.init_cfg.checkpoint=EXPORTED.pth
_base_ = [
    '../../_base_/models/vit-small-p16_uper-depth.py',
    '../../_base_/datasets/rooms_depth.py',
    '../../_base_/schedules/nyu_adam_50e.py',
    '../../_base_/depth_runtime.py',
]

pretrained = None
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
        out_indices=[1, 2, 3, 5],
        init_cfg=dict(checkpoint=pretrained),
    ),
    neck=dict(embed_dim=192),
    decode_head=dict(
        in_channels=[192, 192, 192, 192], channels=48, init_depth=3.0
    ),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=40),
    dict(
        type='CosineAnnealingLR',
        T_max=20,
        eta_min=1e-5,
        end=20,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=20, val_interval=5)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=20, save_best='depth/abs_rel', rule='less'),
)
auto_scale_lr = dict(base_batch_size=8)
benchmark = dict(
    protocol='local-global-demo-uper-20e',
    dataset='mmdense demo rooms',
    split='val',
    pretraining=dict(
        method='LocalGlobal',
        epochs=70,
        data='mmdense demo images',
        config='local-global_vit-demo-p16_1xb32-coslr-70e_demo-96px',
    ),
)
