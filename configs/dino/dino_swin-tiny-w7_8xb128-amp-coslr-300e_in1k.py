_base_ = [
    '../_base_/models/swin-tiny-w7_dino.py',
    '../_base_/datasets/imagenet_multi_crop.py',
    '../_base_/schedules/dino_adamw_coslr-300e_1024.py',
    '../_base_/student_teacher_runtime.py',
]
