# UPerNet on Swin on the demo rooms; minutes on two CPU cores.
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
    # a Swin has a pyramid of its own
    neck=None,
    decode_head=dict(
        in_channels=[48, 96, 192, 384], channels=64, num_classes=13
    ),
    auxiliary_head=dict(in_channels=192, channels=64, num_classes=13),
    test_cfg=dict(_delete_=True, mode='whole'),
)
benchmark = dict(
    protocol='selfpatch-demo-upernet-20e',
    dataset='mmdense demo rooms',
    split='val',
    pretraining=dict(
        method='MoBY + SelfPatch',
        epochs=30,
        data='mmdense demo images',
        config='selfpatch-moby_swin-demo-w3_1xb16-coslr-30e_demo-96px',
    ),
)
