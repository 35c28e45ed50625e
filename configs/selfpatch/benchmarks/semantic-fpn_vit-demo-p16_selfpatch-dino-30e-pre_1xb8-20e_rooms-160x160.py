# Semantic FPN on the demo rooms; minutes on two CPU cores.
# model.backbone.init_cfg.checkpoint names the backbone to start from.
_base_ = [
    '../../_base_/models/vit-small-p16_semantic-fpn.py',
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
    neck=dict(in_channels=[192, 192, 192, 192], out_channels=128),
    decode_head=dict(
        in_channels=[128, 128, 128, 128], channels=64, num_classes=13
    ),
)
benchmark = dict(
    protocol='selfpatch-demo-semantic-fpn-20e',
    dataset='mmdense demo rooms',
    split='val',
    pretraining=dict(
        method='DINO + SelfPatch',
        epochs=30,
        data='mmdense demo images',
        config='selfpatch-dino_vit-demo-p16_1xb16-coslr-30e_demo-96px',
    ),
)
