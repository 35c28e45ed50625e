# Table 8: the convolutional counterpart on ResNet-50.
_base_ = [
    '../dpt_resnext101-32x8d_wsl-pre_1xb16-60e_mix3-384x384.py'  # noqa: E501
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ResNet',
        depth=50,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(
            type='mmdense.Pretrained',
            checkpoint='checkpoints/resnet50-0676ba61.pth',
        ),
    ),
)
benchmark = dict(
    pretraining=dict(
        method='Supervised',
        data='ImageNet-1k',
        weights='torchvision-in1k_resnet50',
    )
)
