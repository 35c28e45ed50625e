# BinsFormer on the plain ResNet-50, as in
# Monocular-Depth-Estimation-Toolbox; every layer is trained.
model = dict(
    type='mmdense.DepthEstimator',
    data_preprocessor=dict(
        type='mmseg.SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        # padded depth has to be invalid, the default of 255 would be 255 m
        seg_pad_val=0,
        size_divisor=32,
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(
        type='mmseg.ResNet',
        depth=50,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    decode_head=dict(
        type='mmdense.BinsFormerDepthHead',
        in_channels=[256, 512, 1024, 2048],
        channels=256,
        num_queries=64,
        # the main config names the rooms of NYU
        scene_classes=None,
        level_order='//',
        pixel_start='stride16',
        min_depth=1e-3,
        max_depth=10.0,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        loss_decode=dict(
            type='mmdense.SILogLoss', variant='toolbox', loss_weight=10.0
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole', flip=True),
)
