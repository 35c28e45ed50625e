_base_ = ['./mask-rcnn_resnet50_mocov2-200e-pre_8xb2-12e_coco.py']

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='checkpoints/swav_200ep_pretrain.pth.tar'),
    ),
)
benchmark = dict(pretraining=dict(method='SwAV', weights='swav-200e_resnet50'))
