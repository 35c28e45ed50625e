# COCO with the multi-scale training of self-supervised ResNets: short side
# 640 to 800.
_base_ = ['mmdet::_base_/datasets/coco_instance.py']

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomChoiceResize',
        scales=[
            *((640, 1333), (672, 1333), (704, 1333), (736, 1333)),
            *((768, 1333), (800, 1333)),
        ],
        resize_type='mmdet.Resize',
        keep_ratio=True,
    ),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.PackDetInputs'),
]
train_dataloader = dict(num_workers=4, dataset=dict(pipeline=train_pipeline))
