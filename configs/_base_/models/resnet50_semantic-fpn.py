# Semantic FPN on the plain ResNet-50 that self-supervised weights are for.
_base_ = ['mmseg::_base_/models/fpn_r50.py']

model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        # not ResNetV1c
        type='ResNet',
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    decode_head=dict(num_classes=150),
)
