_base_ = ['./mask-rcnn_resnet50_mocov2-200e-pre_8xb2-12e_coco.py']

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
