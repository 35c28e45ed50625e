_base_ = [
    '../../_base_/models/vit-small-p16_mask-rcnn.py',
    '../../_base_/datasets/coco_instance_ms-crop.py',
    '../../_base_/schedules/coco_adamw-12e_b8.py',
    '../../_base_/det_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/selfpatch-dino_vit-small-p16.pth'
        ),
    ),
)
train_dataloader = dict(batch_size=1)
benchmark = dict(
    protocol='selfpatch-coco-mask-rcnn-1x',
    dataset='COCO 2017',
    split='val2017',
    pretraining=dict(
        method='DINO + SelfPatch',
        epochs=200,
        data='ImageNet-1k',
        config='selfpatch-dino_vit-small-p16_8xb128-amp-coslr-200e_in1k',
    ),
)
