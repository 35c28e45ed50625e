_base_ = ['./resnet50_binsformer.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdense.SwinTransformer',
        arch='tiny',
        img_size=224,
        window_size=7,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.3,
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
)
