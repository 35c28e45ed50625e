# The default and the published command of the official code: 300 epochs.
_base_ = ['./selfpatch-dino_vit-small-p16_8xb128-amp-coslr-200e_in1k.py']

train_cfg = dict(max_epochs=300)
