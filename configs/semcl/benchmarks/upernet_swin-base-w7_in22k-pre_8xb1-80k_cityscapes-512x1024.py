_base_ = [
    './upernet_swin-base-w7_semcl-city-30k-pre_8xb1-80k_cityscapes-512x1024.py'
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='checkpoints/swin_base_patch4_window7_224_22k.pth'
        ),
    ),
)
benchmark = dict(
    pretraining=dict(
        _delete_=True,
        method='Swin IN-22k',
        data='ImageNet-22k',
        weights='in22k_swin-base-w7',
    ),
)
