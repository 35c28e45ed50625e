# "Linear" depth head of the paper on ViT-S/16: four up-projection blocks.
# Other widths override arch and decode_head.in_channels.
norm_cfg = dict(type='SyncBN', requires_grad=True)
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
        size_divisor=16,
        test_cfg=dict(size_divisor=16),
    ),
    backbone=dict(
        type='mmdense.VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        out_type='featmap',
        out_indices=[11],
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    decode_head=dict(
        type='mmdense.UpProjDepthHead',
        in_channels=384,
        channels=[512, 256, 128, 64],
        block='upproj',
        min_depth=0.0,
        max_depth=10.0,
        init_depth=2.7,
        norm_cfg=norm_cfg,
        loss_decode=[
            dict(type='mmdense.BerHuLoss', factor=0.2, loss_weight=1.0),
            dict(
                type='mmdense.DepthGradientLoss',
                mode='edge_aware',
                loss_weight=0.1,
            ),
        ],
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole', flip=False),
)
