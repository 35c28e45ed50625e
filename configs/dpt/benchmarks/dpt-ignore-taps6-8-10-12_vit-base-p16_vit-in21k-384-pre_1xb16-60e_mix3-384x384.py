# Table 6: other blocks, counted from 1 in the name.
_base_ = [
    '../dpt_vit-base-p16_vit-in21k-384-pre_1xb16-60e_mix3-384x384.py'  # noqa: E501
]

model = dict(
    backbone=dict(out_indices=[5, 7, 9, 11]),
    decode_head=dict(readout='ignore'),
)
benchmark = dict(protocol='dpt-ablation-ignore-taps6-8-10-12')
