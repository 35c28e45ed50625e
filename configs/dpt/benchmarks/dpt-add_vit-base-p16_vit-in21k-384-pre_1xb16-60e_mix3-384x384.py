# Table 7: the class token is added.
_base_ = [
    '../dpt_vit-base-p16_vit-in21k-384-pre_1xb16-60e_mix3-384x384.py'  # noqa: E501
]

model = dict(decode_head=dict(readout='add'))
benchmark = dict(protocol='dpt-ablation-add')
