_base_ = ['./semantic-fpn_resnet50_mocov2-200e-pre_8xb4-40k_ade20k-512x512.py']

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='checkpoints/swav_200ep_pretrain.pth.tar'),
    ),
)
benchmark = dict(pretraining=dict(method='SwAV', weights='swav-200e_resnet50'))
