# DPT with ViT-L/16. Blocks 6, 12, 18 and 24, as in the released code; the
# paper names 5 for the first.
_base_ = ['./vit-base-p16_dpt-depth.py']

model = dict(
    backbone=dict(arch='large', out_indices=[5, 11, 17, 23]),
    decode_head=dict(
        in_channels=[1024, 1024, 1024, 1024],
        reassemble_channels=[256, 512, 1024, 1024],
    ),
)
