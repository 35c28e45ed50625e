_base_ = ['./local-global_vit-small-p16_16xb128-amp-coslr-300e_in1k.py']

model = dict(backbone=dict(arch='deit-tiny'), neck=dict(in_channels=192))
