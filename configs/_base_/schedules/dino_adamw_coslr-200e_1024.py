# The recipe of DINO and SelfPatch: AdamW, 5e-4 per 256 images at a total
# batch of 1024; 10 epochs warm up from 0, then cosine to 1e-6 whatever the
# batch; weight decay from 0.04 to 0.4 along a cosine without warm-up; each
# gradient clipped to a norm of its own; last layers still for one epoch.
# Position embedding and class vector decay, biases and 1-D parameters do not.
optim_wrapper = dict(
    type='mmdense.AmpOptimWrapper',
    constructor='mmdense.GroupedOptimWrapperConstructor',
    dtype='float16',
    loss_scale='dynamic',
    optimizer=dict(
        type='AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.04
    ),
    clip_grad=dict(type='per_tensor', max_norm=3.0),
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
        # 0 is no start for a factor; this is 0 to the optimiser
        start_factor=1e-9,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=True,
        begin=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='mmpretrain.CosineAnnealingWeightDecay',
        eta_min=0.4,
        by_epoch=True,
        begin=0,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
custom_hooks = [dict(type='mmdense.FreezeLastLayerHook', epochs=1)]
auto_scale_lr = dict(base_batch_size=1024)
