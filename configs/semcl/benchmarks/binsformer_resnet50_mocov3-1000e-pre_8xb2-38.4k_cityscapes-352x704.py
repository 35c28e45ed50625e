_base_ = [
    './binsformer_resnet50_semcl-city-30k-pre_8xb2-38.4k_cityscapes-352x704.py'
]

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='checkpoints/r-50-1000ep.pth.tar'),
    ),
)
benchmark = dict(
    pretraining=dict(
        _delete_=True,
        method='MoCo v3 IN-1k',
        epochs=1000,
        data='ImageNet-1k',
        weights='mocov3-1000e_resnet50',
    ),
)
