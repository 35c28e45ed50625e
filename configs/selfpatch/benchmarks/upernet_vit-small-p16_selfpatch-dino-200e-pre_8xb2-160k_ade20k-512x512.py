# The 160k row of the SelfPatch repository, whose config is not published:
# BEiT's UPerNet with the optimiser of Semantic FPN.
_base_ = [
    '../../_base_/models/vit-small-p16_upernet-seg.py',
    '../../_base_/datasets/ade20k_512x512.py',
    '../../_base_/schedules/ade20k_adamw-160k_b16.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    backbone=dict(
        with_cls_token=False,
        final_norm=False,
        init_cfg=dict(
            checkpoint='work_dirs/exports/selfpatch-dino_vit-small-p16.pth'
        ),
    ),
)
default_hooks = dict(checkpoint=dict(interval=16000))
benchmark = dict(
    protocol='selfpatch-ade20k-upernet-160k',
    dataset='ADE20K',
    split='val',
    pretraining=dict(
        method='DINO + SelfPatch',
        epochs=200,
        data='ImageNet-1k',
        config='selfpatch-dino_vit-small-p16_8xb128-amp-coslr-200e_in1k',
    ),
)
