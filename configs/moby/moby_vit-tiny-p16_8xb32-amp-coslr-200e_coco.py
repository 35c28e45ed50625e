# Baseline of SelfPatch's ablations.
_base_ = [
    '../_base_/models/vit-small-p16_moby.py',
    '../_base_/datasets/coco_moby_two_view.py',
    '../_base_/schedules/moby_adamw_coslr-200e_256.py',
    '../_base_/student_teacher_runtime.py',
]

model = dict(backbone=dict(arch='deit-tiny'), neck=dict(in_channels=192))
