_base_ = [
    './binsformer_swin-tiny-w7_semcl-ade-30k-pre_8xb2-38.4k_nyu-416x544.py'
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='checkpoints/swin_tiny_patch4_window7_224.pth'
        ),
    ),
)
benchmark = dict(
    pretraining=dict(
        _delete_=True,
        method='Swin IN-1k',
        epochs=300,
        data='ImageNet-1k',
        weights='in1k_swin-tiny-w7',
    ),
)
