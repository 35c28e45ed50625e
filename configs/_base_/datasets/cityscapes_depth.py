# Cityscapes depth as in Monocular-Depth-Estimation-Toolbox, but with nearest
# neighbour for depth (bilinear smears pixels without disparity): everything
# at 352x1216, 2,975 training and 500 validation images, up to 200 m.
data_root = 'data/cityscapes'
train_pipeline = [
    dict(type='mmdense.LoadImage'),
    dict(type='mmdense.LoadDisparity'),
    # (width, height)
    dict(type='mmseg.Resize', scale=(1216, 352)),
    dict(type='mmdense.RandomRotateDepth', degree=2.5, prob=0.5),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmseg.RandomCrop', crop_size=(352, 704)),
    dict(
        type='mmdense.RandomGammaBrightnessColor',
        gamma=(0.9, 1.1),
        brightness=(0.9, 1.1),
        color=(0.9, 1.1),
        prob=1.0,
    ),
    dict(type='mmdense.PackDepthInputs'),
]
test_pipeline = [
    dict(type='mmdense.LoadImage'),
    dict(type='mmdense.LoadDisparity'),
    dict(type='mmseg.Resize', scale=(1216, 352)),
    # the small map is what is scored
    dict(type='mmdense.ResetOriShape'),
    dict(type='mmdense.PackDepthInputs'),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmdense.CityscapesDepth',
        split='train',
        data_root=data_root,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmdense.CityscapesDepth',
        split='val',
        data_root=data_root,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmdense.DepthMetric', protocol='cityscapes_garg_200'
)
test_evaluator = val_evaluator
