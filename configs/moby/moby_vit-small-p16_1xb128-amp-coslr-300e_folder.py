# Your own images on one GPU:
#   python tools/train.py THIS_FILE \
#       --cfg-options train_dataloader.dataset.paths=/path/to/images
_base_ = [
    '../_base_/models/vit-small-p16_moby.py',
    '../_base_/datasets/folder_moby_two_view.py',
    '../_base_/schedules/moby_adamw_coslr-300e_512.py',
    '../_base_/student_teacher_runtime.py',
]

train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
auto_scale_lr = dict(base_batch_size=128)
