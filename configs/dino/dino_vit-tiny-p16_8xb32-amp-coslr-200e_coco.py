# Baseline of SelfPatch's ablations.
_base_ = [
    '../_base_/models/vit-small-p16_dino.py',
    '../_base_/datasets/coco_multi_crop.py',
    '../_base_/schedules/dino_adamw_coslr-200e_256.py',
    '../_base_/student_teacher_runtime.py',
]

model = dict(backbone=dict(arch='deit-tiny'), neck=dict(in_channels=192))
