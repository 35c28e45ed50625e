# The optimiser of ade20k_adamw-40k_b32.py for 160,000 iterations at batch 16.
_base_ = ['./ade20k_adamw-40k_b32.py']

param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500
    ),
    dict(
        type='PolyLR',
        power=1.0,
        eta_min=0.0,
        by_epoch=False,
        begin=0,
        end=160000,
    ),
]
train_cfg = dict(max_iters=160000, val_interval=16000)
auto_scale_lr = dict(base_batch_size=16)
