# Mask R-CNN as self-supervised ResNets are compared with: no layer is frozen,
# BatchNorm trains, across processes, in the backbone and in FPN.
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py']

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(
        frozen_stages=-1,
        norm_cfg=norm_cfg,
        norm_eval=False,
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    neck=dict(norm_cfg=norm_cfg),
)
