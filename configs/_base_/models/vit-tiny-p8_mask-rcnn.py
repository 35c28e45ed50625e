# Mask R-CNN on ViT-Ti/8: the stride-8 maps to x2, x1, x1/2, x1/4.
_base_ = ['./vit-small-p16_mask-rcnn.py']

model = dict(
    backbone=dict(arch='deit-tiny', patch_size=8),
    neck=[
        dict(
            type='mmseg.Feature2Pyramid',
            embed_dim=192,
            rescales=[2, 1, 0.5, 0.25],
            norm_cfg=dict(type='SyncBN', requires_grad=True),
        ),
        dict(
            type='mmdet.FPN',
            in_channels=[192, 192, 192, 192],
            out_channels=256,
            num_outs=5,
        ),
    ],
)
