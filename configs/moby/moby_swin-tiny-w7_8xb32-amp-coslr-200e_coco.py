# Baseline of SelfPatch's ablations.
_base_ = [
    '../_base_/models/swin-tiny-w7_moby.py',
    '../_base_/datasets/coco_moby_two_view.py',
    '../_base_/schedules/moby_adamw_coslr-200e_256.py',
    '../_base_/student_teacher_runtime.py',
]
