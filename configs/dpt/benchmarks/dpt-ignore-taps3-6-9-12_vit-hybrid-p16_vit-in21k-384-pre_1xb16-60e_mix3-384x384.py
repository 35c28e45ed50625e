# Table 6: four blocks of the ViT, none of the stem.
_base_ = [
    '../dpt_vit-hybrid-p16_vit-in21k-384-pre_1xb16-60e_mix3-384x384.py'  # noqa: E501
]

model = dict(
    backbone=dict(out_indices=[2, 5, 8, 11]),
    decode_head=dict(
        in_channels=[768, 768, 768, 768],
        levels=['tokens', 'tokens', 'tokens', 'tokens'],
        reassemble_channels=[96, 192, 384, 768],
        readout='ignore',
    ),
)
benchmark = dict(protocol='dpt-ablation-ignore-taps3-6-9-12')
