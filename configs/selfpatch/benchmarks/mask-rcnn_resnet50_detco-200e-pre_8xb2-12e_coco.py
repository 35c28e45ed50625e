_base_ = ['./mask-rcnn_resnet50_mocov2-200e-pre_8xb2-12e_coco.py']

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='checkpoints/detco_200ep.pth'),
    ),
)
benchmark = dict(
    pretraining=dict(method='DetCo', weights='detco-200e_resnet50')
)
