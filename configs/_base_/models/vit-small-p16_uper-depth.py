# UPerNet-style depth head on ViT-S/16: blocks 3, 5, 7, 11 to a pyramid.
# Other widths override arch, neck.embed_dim and the head's channels.
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
        out_indices=[3, 5, 7, 11],
        # raw outputs, as BEiT's UPerNet takes them
        final_norm=False,
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    neck=dict(
        type='mmseg.Feature2Pyramid',
        embed_dim=384,
        rescales=[4, 2, 1, 0.5],
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='mmdense.UPerDepthHead',
        in_channels=[384, 384, 384, 384],
        in_index=[0, 1, 2, 3],
        channels=384,
        pool_scales=(1, 2, 3, 6),
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
