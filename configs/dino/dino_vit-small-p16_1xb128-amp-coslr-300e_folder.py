# Your own images on one GPU:
#   python tools/train.py THIS_FILE \
#       --cfg-options train_dataloader.dataset.paths=/path/to/images
_base_ = [
    '../_base_/models/vit-small-p16_dino.py',
    '../_base_/datasets/folder_multi_crop.py',
    '../_base_/schedules/dino_adamw_coslr-300e_1024.py',
    '../_base_/student_teacher_runtime.py',
]

optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
auto_scale_lr = dict(base_batch_size=128)
