_base_ = [
    '../../_base_/models/swin-tiny-w7_mask-rcnn.py',
    '../../_base_/datasets/coco_instance_ms-crop.py',
    '../../_base_/schedules/coco_adamw-12e_b8.py',
    '../../_base_/det_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/exports/selfpatch-moby_swin-tiny-w7.pth'
        ),
    ),
)
train_dataloader = dict(batch_size=1)
benchmark = dict(
    protocol='selfpatch-coco-mask-rcnn-1x-swin',
    dataset='COCO 2017',
    split='val2017',
    pretraining=dict(
        method='MoBY + SelfPatch',
        epochs=200,
        data='COCO train2017 (images only)',
        config='selfpatch-moby_swin-tiny-w7_8xb32-amp-coslr-200e_coco',
    ),
)
