# 60 epochs of 72,000 steps at batch 16, which is how the paper counts an epoch
# of data sets of different sizes. Constant lr, a tenth for the backbone.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=1e-4),
    constructor='mmdense.GroupedOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}),
)
param_scheduler = []
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=4320000, val_interval=72000
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=16)
