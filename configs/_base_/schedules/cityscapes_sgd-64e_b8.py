# mmdet's schedule for Cityscapes, 8 epochs of 8 times the data and 8 images
# for each update. The paper accumulates gradients, over how many steps it does
# not say; here 4 processes take one image at a time, twice.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001),
    accumulative_counts=2,
)
param_scheduler = [
    # 500 updates
    dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000
    ),
    dict(
        type='MultiStepLR',
        by_epoch=True,
        begin=0,
        end=8,
        milestones=[7],
        gamma=0.1,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=8, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# images of one step; lr is that of two
auto_scale_lr = dict(base_batch_size=4)
