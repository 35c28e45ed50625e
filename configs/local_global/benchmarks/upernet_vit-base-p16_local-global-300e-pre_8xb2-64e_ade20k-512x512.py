# The paper raises weight decay and drop path for ViT-B without numbers.
_base_ = [
    '../../_base_/models/vit-small-p16_upernet-seg.py',
    '../../_base_/datasets/ade20k_512x512.py',
    '../../_base_/schedules/ade20k_adamw-64e_b16.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    backbone=dict(
        arch='deit-base',
        drop_path_rate=0.2,
        init_cfg=dict(
            checkpoint='work_dirs/exports/local-global_vit-base-p16.pth'
        ),
    ),
    neck=dict(embed_dim=768),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=768),
    auxiliary_head=dict(in_channels=768),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.05))
benchmark = dict(
    protocol='local-global-ade20k-upernet-64e',
    dataset='ADE20K',
    split='val',
    pretraining=dict(
        method='LocalGlobal',
        epochs=300,
        data='ImageNet-1k',
        config='local-global_vit-base-p16_16xb128-amp-coslr-300e_in1k',
    ),
)
