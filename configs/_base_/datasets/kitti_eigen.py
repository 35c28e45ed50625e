# KITTI, Eigen split by the lists of BTS: 23,158 training images, 652 for
# tests on the benchmark crop. Augmentation of
# Monocular-Depth-Estimation-Toolbox; BTS itself rotates every image, by up to
# 1 degree. For the region of BTS and DPT set
# protocol='kitti_garg_full'.
data_root = 'data/kitti'
train_pipeline = [
    dict(type='mmdense.LoadImage'),
    dict(type='mmdense.LoadDepth', depth_rescale_factor=1 / 256),
    dict(type='mmdense.KBCrop'),
    dict(type='mmdense.RandomRotateDepth', degree=2.5, prob=0.5),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmseg.RandomCrop', crop_size=(352, 704)),
    dict(
        type='mmdense.RandomGammaBrightnessColor',
        gamma=(0.9, 1.1),
        brightness=(0.9, 1.1),
        color=(0.9, 1.1),
        prob=0.5,
    ),
    dict(type='mmdense.PackDepthInputs'),
]
test_pipeline = [
    dict(type='mmdense.LoadImage'),
    dict(type='mmdense.LoadDepth', depth_rescale_factor=1 / 256),
    # the metric cuts the full truth as its protocol says
    dict(type='mmdense.KBCrop', depth=False),
    dict(type='mmdense.PackDepthInputs'),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmdense.KITTIDepth',
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
        type='mmdense.KITTIDepth',
        split='test',
        data_root=data_root,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmdense.DepthMetric', protocol='kitti_garg')
test_evaluator = val_evaluator
