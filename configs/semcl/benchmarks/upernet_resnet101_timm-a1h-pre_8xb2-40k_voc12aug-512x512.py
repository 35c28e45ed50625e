_base_ = ['./upernet_resnet101_semcl-voc-30k-pre_8xb2-40k_voc12aug-512x512.py']

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='checkpoints/resnet101_a1h-36d3f2aa.pth'),
    ),
)
benchmark = dict(
    pretraining=dict(
        _delete_=True,
        method='timm IN-1k',
        data='ImageNet-1k',
        weights='timm-a1h_resnet101',
    ),
)
