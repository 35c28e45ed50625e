_base_ = ['./resnet50_upernet-seg.py']

model = dict(backbone=dict(depth=101))
