# 240 epochs of 20,210 images at batch 48. Weight decay and warm-up are not
# stated in the paper: 1e-4 and none.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.002, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(
        type='PolyLR',
        power=0.9,
        eta_min=0.0,
        by_epoch=False,
        begin=0,
        end=101050,
    ),
]
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=101050, val_interval=10105
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=48)
