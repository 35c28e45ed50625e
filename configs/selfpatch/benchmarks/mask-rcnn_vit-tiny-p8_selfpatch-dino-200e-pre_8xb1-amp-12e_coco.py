_base_ = [
    '../../_base_/models/vit-tiny-p8_mask-rcnn.py',
    '../../_base_/datasets/coco_instance_ms-crop.py',
    '../../_base_/schedules/coco_adamw-12e_b8.py',
    '../../_base_/det_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/selfpatch-dino_vit-tiny-p8.pth'
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
        data='COCO train2017 (images only)',
        config='selfpatch-dino_vit-tiny-p8_8xb32-amp-coslr-200e_coco',
    ),
)
