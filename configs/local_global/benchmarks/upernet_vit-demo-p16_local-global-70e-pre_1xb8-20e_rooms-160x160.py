# Segmentation of the demo rooms; about two minutes on two CPU cores.
# model.backbone.init_cfg.checkpoint names the backbone to start from.
_base_ = [
    '../../_base_/models/vit-small-p16_upernet-seg.py',
    '../../_base_/datasets/rooms_semantic.py',
    '../../_base_/schedules/rooms_adamw_b8.py',
    '../../_base_/rooms_seg_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=(160, 160)),
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=192,
            num_layers=6,
            num_heads=3,
            feedforward_channels=768,
        ),
        img_size=160,
        out_indices=[2, 3, 4, 5],
        drop_path_rate=0.0,
    ),
    neck=dict(embed_dim=192),
    decode_head=dict(
        in_channels=[192, 192, 192, 192], channels=64, num_classes=13
    ),
    auxiliary_head=dict(in_channels=192, channels=64, num_classes=13),
    test_cfg=dict(_delete_=True, mode='whole'),
)
benchmark = dict(
    protocol='local-global-demo-upernet-20e',
    dataset='mmdense demo rooms',
    split='val',
    pretraining=dict(
        method='LocalGlobal',
        epochs=70,
        data='mmdense demo images',
        config='local-global_vit-demo-p16_1xb32-coslr-70e_demo-96px',
    ),
)
