_base_ = ['./dino_vit-tiny-p16_8xb32-amp-coslr-200e_coco.py']

model = dict(backbone=dict(patch_size=8))
