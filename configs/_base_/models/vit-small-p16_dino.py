# DINO on ViT-S/16; other widths override arch and in_channels.
model = dict(
    type='mmdense.DINO',
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
        # of the student; the teacher has none
        drop_path_rate=0.1,
        out_type='tokens',
        pos_embed_rule='scale',
        init_std=0.02,
    ),
    neck=dict(
        type='mmdense.DINOHead',
        in_channels=384,
        out_channels=65536,
        hid_channels=2048,
        bottleneck_channels=256,
        # the default of the official code; its authors advise False for ViT-S
        norm_last_layer=True,
    ),
    loss=dict(
        type='mmdense.DINOLoss',
        out_channels=65536,
        student_temp=0.1,
        # DINO's longer recipes: 0.07 after 30 epochs of warm-up from 0.04
        teacher_temp=0.04,
        warmup_teacher_temp=0.04,
        warmup_teacher_temp_epochs=0,
        center_momentum=0.9,
    ),
    teacher=dict(momentum=0.996, end_momentum=1.0),
    center_crops='global',
)
