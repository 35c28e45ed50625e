# SelfPatch on DINO, ViT-S/16; other widths override arch, in_channels,
# embed_dims and num_heads.
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
        type='mmdense.DINO',
        backbone=dict(
            type='mmdense.VisionTransformer',
            arch='deit-small',
            img_size=224,
            patch_size=16,
            # of the student; the teacher has none
            drop_path_rate=0.1,
            out_type='tokens',
            # raw tokens: class vector and norm are in the aggregation head
            with_cls_token=False,
            final_norm=False,
            pos_embed_rule='scale',
            init_std=0.02,
        ),
        neck=dict(
            type='mmdense.DINOHead',
            in_channels=384,
            out_channels=65536,
            hid_channels=2048,
            bottleneck_channels=256,
            # as in the published command; DINO's authors advise False for
            # ViT-S
            norm_last_layer=True,
        ),
        loss=dict(
            type='mmdense.DINOLoss',
            out_channels=65536,
            student_temp=0.1,
            teacher_temp=0.04,
            warmup_teacher_temp=0.04,
            warmup_teacher_temp_epochs=0,
            center_momentum=0.9,
        ),
        teacher=dict(momentum=0.996, end_momentum=1.0),
        # the official code; 'global' is DINO's own
        center_crops='all',
    ),
    aggregation=dict(
        type='mmdense.ClassAttentionPooling',
        embed_dims=384,
        # those of the backbone
        num_heads=6,
        depth=2,
    ),
    matching=dict(
        window=3,
        top_k=4,
        # 'wrap' for parity with the official code, whose patches at the edge
        # have neighbours at the opposite edge
        border='mask',
    ),
    patch_head=dict(
        type='mmdense.DINOHead',
        in_channels=384,
        out_channels=4096,
        hid_channels=2048,
        bottleneck_channels=256,
        norm_last_layer=True,
    ),
    patch_loss=dict(
        type='mmdense.PatchDistillationLoss',
        out_channels=4096,
        student_temp=0.1,
        teacher_temp=0.04,
        warmup_teacher_temp=0.04,
        warmup_teacher_temp_epochs=0,
        center_momentum=0.9,
        # patches whose logits are alive at a time: 16 MB of each kind at 1024;
        # a GPU is faster with more
        chunk_size=1024,
    ),
    patch_target='attention',
    loss_weight=0.1,
)
