# ResNet-50 rows of Table 2, with the recipe of the ViT rows: no other is
# published.
_base_ = [
    '../../_base_/models/resnet50_semantic-fpn.py',
    '../../_base_/datasets/ade20k_512x512.py',
    '../../_base_/schedules/ade20k_adamw-40k_b32.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='checkpoints/moco_v2_200ep_pretrain.pth.tar'),
    ),
)
train_dataloader = dict(batch_size=4)
default_hooks = dict(checkpoint=dict(interval=4000))
benchmark = dict(
    protocol='selfpatch-ade20k-semantic-fpn-40k-resnet50',
    dataset='ADE20K',
    split='val',
    pretraining=dict(
        method='MoCo-v2',
        epochs=200,
        data='ImageNet-1k',
        weights='mocov2-200e_resnet50',
    ),
)
