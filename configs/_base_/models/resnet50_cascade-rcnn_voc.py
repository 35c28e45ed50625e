# mmdet's Cascade R-CNN, boxes alone, for 20 classes; the backbone is that of
# resnet50_cascade-mask-rcnn.py.
_base_ = ['mmdet::_base_/models/cascade-rcnn_r50_fpn.py']

model = dict(
    backbone=dict(
        frozen_stages=-1,
        norm_cfg=dict(type='SyncBN'),
        norm_eval=False,
        init_cfg=dict(
            _delete_=True, type='mmdense.Pretrained', checkpoint=None
        ),
    ),
    # the three stages differ in the scale of their targets
    roi_head=dict(
        bbox_head=[
            dict(
                type='mmdet.Shared2FCBBoxHead',
                in_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=20,
                bbox_coder=dict(
                    type='mmdet.DeltaXYWHBBoxCoder',
                    target_means=[0.0, 0.0, 0.0, 0.0],
                    target_stds=stds,
                ),
                reg_class_agnostic=True,
                loss_cls=dict(
                    type='mmdet.CrossEntropyLoss',
                    use_sigmoid=False,
                    loss_weight=1.0,
                ),
                loss_bbox=dict(
                    type='mmdet.SmoothL1Loss', beta=1.0, loss_weight=1.0
                ),
            )
            for stds in (
                [0.1, 0.1, 0.2, 0.2],
                [0.05, 0.05, 0.1, 0.1],
                [0.033, 0.033, 0.067, 0.067],
            )
        ],
    ),
)
