# The paper's recipe: 200 epochs.
_base_ = [
    '../_base_/models/vit-small-p16_selfpatch-dino.py',
    '../_base_/datasets/imagenet_multi_crop.py',
    '../_base_/schedules/dino_adamw_coslr-200e_1024.py',
    '../_base_/selfpatch_runtime.py',
]
