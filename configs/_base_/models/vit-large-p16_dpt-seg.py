# DPT with ViT-L/16 for segmentation.
_base_ = ['./vit-base-p16_dpt-seg.py']

model = dict(
    backbone=dict(arch='large', out_indices=[5, 11, 17, 23]),
    decode_head=dict(
        in_channels=[1024, 1024, 1024, 1024],
        reassemble_channels=[256, 512, 1024, 1024],
    ),
)
