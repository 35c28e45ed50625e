# Segmentation of the demo rooms with the linear head; a few minutes on two
# CPU cores. model.backbone.init_cfg.checkpoint names the backbone.
_base_ = [
    '../../_base_/models/vit-small-p16_linear-seg.py',
    '../../_base_/datasets/rooms_semantic.py',
    '../../_base_/schedules/rooms_adamw_b8.py',
    '../../_base_/rooms_seg_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=(192, 256)),
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=192,
            num_layers=6,
            num_heads=3,
            feedforward_channels=768,
        ),
        img_size=(192, 256),
        out_indices=[5],
        drop_path_rate=0.0,
    ),
    decode_head=dict(in_channels=192, channels=192, num_classes=13),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmseg.LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=(320, 240),
        ratio_range=(0.8, 1.25),
        keep_ratio=True,
        resize_type='mmseg.Resize',
    ),
    dict(type='mmseg.RandomCrop', crop_size=(192, 256), cat_max_ratio=0.85),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmseg.PhotoMetricDistortion'),
    dict(type='mmseg.PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=25)
benchmark = dict(
    protocol='local-global-demo-linear-25e',
    dataset='mmdense demo rooms',
    split='val',
    pretraining=dict(
        method='LocalGlobal',
        epochs=70,
        data='mmdense demo images',
        config='local-global_vit-demo-p16_1xb32-coslr-70e_demo-96px',
    ),
)
