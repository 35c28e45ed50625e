# The recipe of MoBY: AdamW, 1e-3 at a total batch of 512; 5 epochs warm up
# from 5e-7, then cosine to 5e-6. Both ends are given as shares of the learning
# rate because MoBY scales them with the batch, too. (In the official code the
# cosine starts at epoch 0, under the warm-up; here it starts after it, which
# is at most 1.6 % of the learning rate more in 300 epochs and 2.3 % in 200.)
# Position embedding and class
# vector decay, biases and 1-D parameters do not.
optim_wrapper = dict(
    type='mmdense.AmpOptimWrapper',
    constructor='mmdense.GroupedOptimWrapperConstructor',
    dtype='float16',
    loss_scale='dynamic',
    optimizer=dict(
        type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05
    ),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
    ),
)
# Schedules without an end go on to the end of the training.
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=5e-4,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=5e-3,
        by_epoch=True,
        begin=5,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
auto_scale_lr = dict(base_batch_size=512)
