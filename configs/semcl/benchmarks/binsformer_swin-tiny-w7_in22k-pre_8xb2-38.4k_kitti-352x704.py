_base_ = [
    './binsformer_swin-tiny-w7_semcl-city-30k-pre_8xb2-38.4k_kitti-352x704.py'
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='checkpoints/swin_tiny_patch4_window7_224_22k.pth'
        ),
    ),
)
benchmark = dict(
    pretraining=dict(
        _delete_=True,
        method='Swin IN-22k',
        data='ImageNet-22k',
        weights='in22k_swin-tiny-w7',
    ),
)
