# mmseg's UPerNet on the plain ResNet with its 7x7 stem, which is what public
# and self-supervised weights are for; mmseg's own configs take ResNetV1c.
_base_ = ['mmseg::_base_/models/upernet_r50.py']

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained=None,
    backbone=dict(
        type='mmseg.ResNet',
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
