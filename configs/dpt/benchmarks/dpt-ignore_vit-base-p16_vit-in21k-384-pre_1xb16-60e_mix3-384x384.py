# Tables 6 and 7: blocks 3, 6, 9 and 12 without the class token.
_base_ = [
    '../dpt_vit-base-p16_vit-in21k-384-pre_1xb16-60e_mix3-384x384.py'  # noqa: E501
]

model = dict(decode_head=dict(readout='ignore'))
benchmark = dict(protocol='dpt-ablation-ignore')
