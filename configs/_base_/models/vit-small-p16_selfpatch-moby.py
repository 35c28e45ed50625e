# SelfPatch on MoBY, ViT-S/16; other widths override arch, in_channels,
# embed_dims and num_heads. The paper gives results but no code: projector and
# predictor of the patches have the shape of MoBY's.
model = dict(
    type='mmdense.SelfPatch',
    data_preprocessor=dict(
        type='mmdense.MultiCropPreprocessor',
        # the pipelines give RGB
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        non_blocking=True,
    ),
    method=dict(
        type='mmdense.MoBY',
        backbone=dict(
            type='mmdense.VisionTransformer',
            arch='deit-small',
            img_size=224,
            patch_size=16,
            # of the online encoder; the momentum encoder has none
            drop_path_rate=0.2,
            out_type='tokens',
            # raw tokens: class vector and norm are in the aggregation head
            with_cls_token=False,
            final_norm=False,
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
            queue_size=4096,
            temperature=0.2,
        ),
        teacher=dict(momentum=0.99, end_momentum=1.0),
    ),
    aggregation=dict(
        type='mmdense.ClassAttentionPooling',
        embed_dims=384,
        # those of the backbone
        num_heads=6,
        depth=2,
    ),
    matching=dict(window=3, top_k=4, border='mask'),
    patch_head=dict(
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
    patch_predictor=dict(
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
    patch_loss=dict(
        type='mmdense.PatchContrastLoss',
        # global vectors of other images; 'none' leaves the cosine alone
        negatives='queue',
        channels=256,
        # divisible by the views of a total batch
        queue_size=4096,
        temperature=0.2,
    ),
    patch_target='attention',
    loss_weight=0.1,
)
