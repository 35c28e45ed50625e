_base_ = ['./swin-tiny-w7_upernet-seg.py']

model = dict(backbone=dict(arch='small', drop_path_rate=0.3))
