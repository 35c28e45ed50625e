# DPT-Hybrid for segmentation.
_base_ = ['./vit-base-p16_dpt-seg.py']

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
