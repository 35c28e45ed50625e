# MoBY on Swin-T: the global vector is the mean of the last stage.
_base_ = ['./vit-small-p16_moby.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdense.SwinTransformer',
        arch='tiny',
        img_size=224,
        window_size=7,
        drop_path_rate=0.2,
    ),
    neck=dict(in_channels=768),
)
