# Table 6: R0, R1 and blocks 9 and 12.
_base_ = [
    '../dpt_vit-hybrid-p16_vit-in21k-384-pre_1xb16-60e_mix3-384x384.py'  # noqa: E501
]

model = dict(decode_head=dict(readout='ignore'))
benchmark = dict(protocol='dpt-ablation-ignore')
