# Segmentation of the demo rooms with DPT; minutes on two CPU cores.
# model.backbone.init_cfg.checkpoint names the backbone to start from.
_base_ = [
    '../../_base_/models/vit-base-p16_dpt-seg.py',
    '../../_base_/datasets/rooms_semantic.py',
    '../../_base_/schedules/rooms_adamw_b8.py',
    '../../_base_/rooms_seg_runtime.py',
]

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        size=(160, 160),
    ),
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
    ),
    decode_head=dict(
        in_channels=[192, 192, 192, 192],
        reassemble_channels=[24, 48, 96, 192],
        channels=64,
        num_classes=13,
    ),
)
tta_model = dict(type='mmseg.SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='mmseg.Resize', scale=scale, keep_ratio=True)
                for scale in ((240, 180), (320, 240), (400, 300))
            ],
            [
                dict(type='mmseg.RandomFlip', prob=0.0),
                dict(type='mmseg.RandomFlip', prob=1.0),
            ],
            [dict(type='mmseg.LoadAnnotations')],
            [dict(type='mmseg.PackSegInputs')],
        ],
    ),
]
benchmark = dict(
    protocol='dpt-demo-seg-20e',
    dataset='mmdense demo rooms',
    split='val',
    pretraining=dict(
        method='LocalGlobal',
        epochs=70,
        data='mmdense demo images',
        config='local-global_vit-demo-p16_1xb32-coslr-70e_demo-96px',
    ),
)
