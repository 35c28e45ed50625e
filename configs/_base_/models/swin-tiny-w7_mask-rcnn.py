# mmdet's Mask R-CNN on Swin-T, with the Swin of mmdense.
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdense.SwinTransformer',
        arch='tiny',
        img_size=224,
        window_size=7,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.2,
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
