# The recipe of dino_adamw_coslr-200e_1024.py for a short run on a CPU: full
# precision, a learning rate above the linear rule, three epochs of warm-up.
optim_wrapper = dict(
    type='mmdense.OptimWrapper',
    constructor='mmdense.GroupedOptimWrapperConstructor',
    optimizer=dict(
        type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.04
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
        start_factor=1e-9,
        by_epoch=True,
        begin=0,
        end=3,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=True,
        begin=3,
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
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30)
# 30 epochs are fewer iterations than the one of the recipe on ImageNet; a last
# layer that moves so early lets the outputs drift to even
custom_hooks = [dict(type='mmdense.FreezeLastLayerHook', epochs=30)]
auto_scale_lr = dict(base_batch_size=16)
