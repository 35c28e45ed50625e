_base_ = ['./semantic-fpn_resnet50_mocov2-200e-pre_8xb4-40k_ade20k-512x512.py']

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='checkpoints/resim_fpn_backbone_200ep.pth.tar'
        ),
    ),
)
benchmark = dict(
    pretraining=dict(method='ReSim', weights='resim-200e_resnet50')
)
