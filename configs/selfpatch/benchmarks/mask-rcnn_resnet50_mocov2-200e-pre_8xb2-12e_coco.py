# ResNet-50 rows of Table 1. The paper does not say how they were trained:
# this is what such ResNets are usually compared with, 12 epochs of SGD and a
# short side of 640 to 800.
_base_ = [
    '../../_base_/models/resnet50_mask-rcnn.py',
    '../../_base_/datasets/coco_instance_640-800.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../../_base_/det_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='checkpoints/moco_v2_200ep_pretrain.pth.tar'),
    ),
)
benchmark = dict(
    protocol='selfpatch-coco-mask-rcnn-1x-resnet50',
    dataset='COCO 2017',
    split='val2017',
    pretraining=dict(
        method='MoCo-v2',
        epochs=200,
        data='ImageNet-1k',
        weights='mocov2-200e_resnet50',
    ),
)
