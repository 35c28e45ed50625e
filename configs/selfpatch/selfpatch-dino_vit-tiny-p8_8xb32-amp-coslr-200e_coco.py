_base_ = ['./selfpatch-dino_vit-tiny-p16_8xb32-amp-coslr-200e_coco.py']

model = dict(method=dict(backbone=dict(patch_size=8)))
