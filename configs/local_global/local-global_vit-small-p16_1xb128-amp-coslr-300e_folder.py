# Your own images on one GPU:
#   python tools/train.py THIS_FILE \
#       --cfg-options train_dataloader.dataset.paths=/path/to/images
_base_ = [
    '../_base_/models/vit-small-p16_local-global.py',
    '../_base_/datasets/folder_two_view.py',
    '../_base_/schedules/adamw_coslr-300e_2048.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(lr=5e-5))
auto_scale_lr = dict(base_batch_size=128)
custom_hooks = [dict(type='mmdense.CollapseMonitorHook')]
