# DPT with ViT-B/16: blocks 3, 6, 9 and 12 to strides 4 to 32. It gives
# inverse depth up to scale and shift; metric configs change the head's output.
model = dict(
    type='mmdense.DepthEstimator',
    data_preprocessor=dict(
        type='mmseg.SegDataPreProcessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        pad_val=0,
        # padded depth has to be invalid
        seg_pad_val=0,
        size_divisor=32,
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(
        type='mmdense.VisionTransformer',
        arch='base',
        img_size=384,
        patch_size=16,
        out_type='tokens',
        out_indices=[2, 5, 8, 11],
        final_norm=False,
        interpolate_mode='bilinear',
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    decode_head=dict(
        type='mmdense.DPTDepthHead',
        in_channels=[768, 768, 768, 768],
        levels=['tokens', 'tokens', 'tokens', 'tokens'],
        reassemble_channels=[96, 192, 384, 768],
        channels=256,
        readout='project',
        output='relative',
        loss_decode=dict(type='mmdense.SSILoss', variant='trimmed'),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole', flip=False, interpolation='bicubic'),
)
