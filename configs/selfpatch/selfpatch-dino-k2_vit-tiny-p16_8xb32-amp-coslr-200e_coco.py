_base_ = ['./selfpatch-dino_vit-tiny-p16_8xb32-amp-coslr-200e_coco.py']

model = dict(matching=dict(top_k=2))
