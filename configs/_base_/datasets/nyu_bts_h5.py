# NYU Depth V2 in HDF5, the BTS recipe: full resolution, Eigen crop.
data_root = 'data/nyudepthv2'
train_pipeline = [
    dict(type='mmdense.LoadDepthH5'),
    # white frame of the raw images
    dict(
        type='mmdense.FixedCrop',
        rows=(45, 472),
        cols=(43, 608),
        size=(480, 640),
    ),
    dict(type='mmdense.RandomRotateDepth', degree=2.5),
    dict(type='mmseg.RandomCrop', crop_size=(416, 544)),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(
        type='mmdense.RandomGammaBrightnessColor',
        gamma=(0.9, 1.1),
        brightness=(0.75, 1.25),
        color=(0.9, 1.1),
        prob=0.5,
    ),
    dict(type='mmdense.PackDepthInputs'),
]
test_pipeline = [
    dict(type='mmdense.LoadDepthH5'),
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
    batch_size=4,
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
val_evaluator = dict(type='mmdense.DepthMetric', protocol='nyu_eigen')
test_evaluator = val_evaluator
