_base_ = ['./swin-tiny-w7_binsformer.py']

model = dict(
    backbone=dict(arch='large'),
    decode_head=dict(in_channels=[192, 384, 768, 1536], channels=512),
)
