# Rendered demo rooms, 160 training and 40 validation views of 240x320.
# Images are shrunk to 160x224, scores are those of the full 240x320.
data_root = 'demo/data/rooms'
train_pipeline = [
    dict(type='mmdense.LoadImage'),
    dict(type='mmdense.LoadDepth', depth_rescale_factor=1e-3),
    # (width, height)
    dict(type='mmseg.Resize', scale=(224, 160)),
    dict(type='mmseg.RandomCrop', crop_size=(160, 160)),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmdense.RandomGammaBrightnessColor'),
    dict(type='mmdense.PackDepthInputs'),
]
test_pipeline = [
    dict(type='mmdense.LoadImage'),
    # before LoadDepth: the truth keeps its size
    dict(type='mmseg.Resize', scale=(224, 160)),
    dict(type='mmdense.LoadDepth', depth_rescale_factor=1e-3),
    dict(type='mmdense.PackDepthInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmdense.DepthFolder',
        data_root=data_root,
        data_prefix=dict(img_path='train', depth_map_path='depth/train'),
        # medians of rooms in metres; others hint at a wrong unit
        plausible_range=(0.5, 10),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmdense.DepthFolder',
        data_root=data_root,
        data_prefix=dict(img_path='val', depth_map_path='depth/val'),
        plausible_range=(0.5, 10),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmdense.DepthMetric', max_depth=10.0)
test_evaluator = val_evaluator
