_base_ = [
    '../_base_/models/vit-small-p16_local-global.py',
    '../_base_/datasets/imagenet_two_view.py',
    '../_base_/schedules/adamw_coslr-300e_2048.py',
    '../_base_/default_runtime.py',
]

custom_hooks = [dict(type='mmdense.CollapseMonitorHook')]
