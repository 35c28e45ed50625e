# Semantic FPN of the SelfPatch code: raw outputs of blocks 2, 5, 8, 11, all
# at stride 16, so that the prediction has stride 16 as well.
_base_ = ['mmseg::_base_/models/fpn_r50.py']

model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(512, 512), test_cfg=dict(size_divisor=16)),
    backbone=dict(
        _delete_=True,
        type='mmdense.VisionTransformer',
        arch='deit-small',
        # positions are resized once, when the weights are loaded
        img_size=512,
        patch_size=16,
        out_type='featmap',
        out_indices=[2, 5, 8, 11],
        with_cls_token=False,
        final_norm=False,
        drop_path_rate=0.1,
        interpolate_mode='bicubic',
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    neck=dict(in_channels=[384, 384, 384, 384]),
    decode_head=dict(num_classes=150),
)
