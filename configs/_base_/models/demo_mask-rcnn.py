# A small Mask R-CNN for the demo rooms; backbone and neck are the config's.
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py']

model = dict(
    rpn_head=dict(
        in_channels=96,
        feat_channels=96,
        # images are a third of COCO's
        anchor_generator=dict(scales=[4]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=96),
        bbox_head=dict(in_channels=96, fc_out_channels=256, num_classes=10),
        mask_roi_extractor=dict(out_channels=96),
        mask_head=dict(
            num_convs=2, in_channels=96, conv_out_channels=96, num_classes=10
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=250),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=500, max_per_img=250), rcnn=dict(max_per_img=50)
    ),
)
