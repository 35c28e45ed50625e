_base_ = [
    '../_base_/models/vit-small-p16_moby.py',
    '../_base_/datasets/imagenet_moby_two_view.py',
    '../_base_/schedules/moby_adamw_coslr-300e_512.py',
    '../_base_/student_teacher_runtime.py',
]
