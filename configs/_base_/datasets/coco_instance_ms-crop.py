# COCO with the multi-scale and crop augmentation of DETR, as in mmdet's Swin
# configs: half of the images are resized, the other half resized, cropped and
# resized again.
_base_ = ['mmdet::_base_/datasets/coco_instance.py']

scales = [
    *((480, 1333), (512, 1333), (544, 1333), (576, 1333), (608, 1333)),
    *((640, 1333), (672, 1333), (704, 1333), (736, 1333), (768, 1333)),
    (800, 1333),
]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [
                dict(
                    type='RandomChoiceResize',
                    scales=scales,
                    resize_type='mmdet.Resize',
                    keep_ratio=True,
                )
            ],
            [
                dict(
                    type='RandomChoiceResize',
                    scales=[(400, 1333), (500, 1333), (600, 1333)],
                    resize_type='mmdet.Resize',
                    keep_ratio=True,
                ),
                dict(
                    type='mmdet.RandomCrop',
                    crop_type='absolute_range',
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                dict(
                    type='RandomChoiceResize',
                    scales=scales,
                    resize_type='mmdet.Resize',
                    keep_ratio=True,
                ),
            ],
        ],
    ),
    dict(type='mmdet.PackDetInputs'),
]
train_dataloader = dict(num_workers=4, dataset=dict(pipeline=train_pipeline))
