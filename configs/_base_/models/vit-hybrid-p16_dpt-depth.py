# DPT-Hybrid: two stages of the ResNet stem and blocks 9 and 12 of the ViT.
_base_ = ['./vit-base-p16_dpt-depth.py']

model = dict(
    backbone=dict(
        type='mmdense.HybridVisionTransformer',
        layers=(3, 4, 9),
        out_indices=['stem0', 'stem1', 8, 11],
    ),
    decode_head=dict(
        in_channels=[256, 512, 768, 768],
        levels=['map', 'map', 'tokens', 'tokens'],
        reassemble_channels=[256, 512, 768, 768],
    ),
)
