# Pascal Context, 50 epochs of 4,998 images, from the whole ADE20K model; the
# two output convolutions have other classes and start anew.
_base_ = [
    '../../_base_/models/vit-hybrid-p16_dpt-seg.py',
    '../../_base_/datasets/pascal-context_480x480.py',
    '../../_base_/schedules/ade20k_sgd-240e_b48.py',
    '../../_base_/seg_runtime.py',
]

load_from = (
    'work_dirs/dpt_vit-hybrid-p16_vit-in21k-384-pre_8xb6-240e_ade20k-480x480/'
    'iter_101050.pth'
)
model = dict(decode_head=dict(num_classes=59))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, end=5206),
]
train_cfg = dict(max_iters=5206, val_interval=521)
default_hooks = dict(checkpoint=dict(interval=521))
benchmark = dict(
    protocol='dpt-pascal-context-50e-tta',
    dataset='Pascal Context',
    split='val',
    tta=True,
    pretraining=dict(
        method='DPT',
        epochs=240,
        data='ADE20K',
        config=(
            'dpt_vit-hybrid-p16_vit-in21k-384-pre_8xb6-240e_ade20k-480x480'
        ),
    ),
)
