# NYU Depth V2 in HDF5, FastDepth's recipe: scored on 224x224 centre crops.
data_root = 'data/nyudepthv2'
train_pipeline = [
    dict(type='mmdense.LoadDepthH5'),
    dict(type='mmseg.Resize', scale_factor=250 / 480, interpolation='nearest'),
    dict(type='mmdense.RandomRotateDepth', degree=5, interpolation='nearest'),
    dict(
        type='mmdense.RandomScaleDepth',
        scale_range=(1.0, 1.5),
        interpolation='nearest',
    ),
    # (width, height)
    dict(type='mmdense.CenterCrop', crop_size=(304, 228)),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmseg.Resize', scale=(224, 224), interpolation='nearest'),
    dict(
        type='mmpretrain.ColorJitter',
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        # the one that knows that images are BGR
        backend='cv2',
    ),
    dict(type='mmdense.PackDepthInputs'),
]
test_pipeline = [
    dict(type='mmdense.LoadDepthH5'),
    dict(type='mmseg.Resize', scale_factor=250 / 480, interpolation='nearest'),
    dict(type='mmdense.CenterCrop', crop_size=(304, 228)),
    dict(type='mmseg.Resize', scale=(224, 224), interpolation='nearest'),
    # the crop is what is scored
    dict(type='mmdense.ResetOriShape'),
    dict(type='mmdense.PackDepthInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmdense.NYUDepthH5',
        split='train',
        data_root=data_root,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmdense.NYUDepthH5',
        split='official',
        data_root=data_root,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmdense.DepthMetric', protocol='fastdepth')
test_evaluator = val_evaluator
