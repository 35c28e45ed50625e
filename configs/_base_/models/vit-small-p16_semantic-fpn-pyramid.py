# Semantic FPN on a real pyramid: x4, x2, x1, x1/2 before FPN, as for
# detection; the prediction has stride 4.
_base_ = ['./vit-small-p16_semantic-fpn.py']

model = dict(
    neck=[
        dict(
            type='mmseg.Feature2Pyramid',
            embed_dim=384,
            rescales=[4, 2, 1, 0.5],
            norm_cfg=dict(type='SyncBN', requires_grad=True),
        ),
        dict(
            type='mmseg.FPN',
            in_channels=[384, 384, 384, 384],
            out_channels=256,
            num_outs=4,
        ),
    ],
)
