# MoBY on ViT-S/16; other widths override arch and in_channels.
model = dict(
    type='mmdense.MoBY',
    data_preprocessor=dict(
        type='mmdense.MultiCropPreprocessor',
        # the pipelines give RGB
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        non_blocking=True,
    ),
    backbone=dict(
        type='mmdense.VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        # of the online encoder; the momentum encoder has none
        drop_path_rate=0.2,
        out_type='tokens',
        init_std=0.02,
    ),
    neck=dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=384,
        hid_channels=4096,
        out_channels=256,
        num_layers=2,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=False,
        norm_cfg=dict(type='SyncBN'),
    ),
    predictor=dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=256,
        hid_channels=4096,
        out_channels=256,
        num_layers=2,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=False,
        norm_cfg=dict(type='SyncBN'),
    ),
    loss=dict(
        type='mmdense.MoBYLoss',
        channels=256,
        # divisible by the total batch
        queue_size=4096,
        temperature=0.2,
    ),
    teacher=dict(momentum=0.99, end_momentum=1.0),
)
