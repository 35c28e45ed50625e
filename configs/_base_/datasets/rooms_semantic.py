# Rendered demo rooms, 160 training and 40 validation views of 240x320.
data_root = 'demo/data/rooms'
metainfo = dict(
    classes=(
        'wall',
        'floor',
        'ceiling',
        'picture',
        'bed',
        'chair',
        'sofa',
        'table',
        'cabinet',
        'shelf',
        'lamp',
        'plant',
        'other',
    ),
    palette=[
        [174, 199, 232],
        [152, 223, 138],
        [219, 219, 141],
        [196, 156, 148],
        [255, 187, 120],
        [188, 189, 34],
        [140, 86, 75],
        [255, 152, 150],
        [31, 119, 180],
        [148, 103, 189],
        [255, 217, 47],
        [44, 160, 44],
        [127, 127, 127],
    ],
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmseg.LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=(320, 240),
        ratio_range=(0.7, 1.5),
        keep_ratio=True,
        resize_type='mmseg.Resize',
    ),
    dict(type='mmseg.RandomCrop', crop_size=(160, 160), cat_max_ratio=0.75),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmseg.PhotoMetricDistortion'),
    dict(type='mmseg.PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmseg.BaseSegDataset',
        data_root=data_root,
        metainfo=metainfo,
        img_suffix='.jpg',
        seg_map_suffix='.png',
        data_prefix=dict(img_path='train', seg_map_path='semantic/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmseg.BaseSegDataset',
        data_root=data_root,
        metainfo=metainfo,
        img_suffix='.jpg',
        seg_map_suffix='.png',
        data_prefix=dict(img_path='val', seg_map_path='semantic/val'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
