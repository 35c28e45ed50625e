# DINO on Swin-T: the global vector is the mean of the last stage. Windows
# shrink on the small crops, which the log tells once.
_base_ = ['./vit-small-p16_dino.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdense.SwinTransformer',
        arch='tiny',
        img_size=224,
        window_size=7,
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=768),
)
