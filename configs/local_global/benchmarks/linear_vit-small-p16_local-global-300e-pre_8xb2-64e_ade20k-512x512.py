_base_ = [
    '../../_base_/models/vit-small-p16_linear-seg.py',
    '../../_base_/datasets/ade20k_512x512.py',
    '../../_base_/schedules/ade20k_adamw-64e_b16.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/local-global_vit-small-p16.pth'
        ),
    ),
)
