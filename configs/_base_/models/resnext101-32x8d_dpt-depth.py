# The convolutional counterpart, MiDaS: no readout, no reassembling, fusion
# blocks without their 1x1 convolution; normalised as its weights expect.
_base_ = ['./vit-base-p16_dpt-depth.py']

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ResNeXt',
        depth=101,
        groups=32,
        width_per_group=8,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    decode_head=dict(
        in_channels=[256, 512, 1024, 2048],
        levels=['map', 'map', 'map', 'map'],
        reassemble_channels=None,
        with_project=False,
    ),
)
