# mmdet's Cascade Mask R-CNN on Swin-T.
_base_ = ['./resnet50_cascade-mask-rcnn.py']

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
