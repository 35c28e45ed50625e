# LocalGlobal on ViT-S/16; other widths override arch and in_channels.
model = dict(
    type='mmdense.LocalGlobal',
    data_preprocessor=dict(
        type='mmpretrain.SelfSupDataPreprocessor',
        # the pipelines give RGB
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(
        type='mmdense.VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        out_type='raw',
        final_norm=True,
        # DeiT's and DINO's start
        init_std=0.02,
    ),
    neck=dict(
        type='mmdense.TokenProjector',
        in_channels=384,
        hid_channels=2048,
        out_channels=256,
        num_layers=3,
        norm='none',
        share_projector=True,
    ),
    head=dict(
        type='mmdense.LocalGlobalHead',
        loss=dict(
            type='mmdense.LocalGlobalLoss',
            temperature=0.1,
            normalize=True,
            symmetric=True,
            negatives='local',
            gather=False,
            stop_grad='none',
        ),
    ),
)
