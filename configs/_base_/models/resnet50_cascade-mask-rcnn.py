# mmdet's Cascade Mask R-CNN with all of the backbone trained: the statistics
# of self-supervised weights have to adapt.
_base_ = ['mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py']

model = dict(
    backbone=dict(
        frozen_stages=-1,
        norm_cfg=dict(type='SyncBN'),
        norm_eval=False,
        init_cfg=dict(
            _delete_=True, type='mmdense.Pretrained', checkpoint=None
        ),
    ),
)
