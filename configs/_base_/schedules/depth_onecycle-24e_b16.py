# The depth toolbox's: one cycle of 24 epochs, batch 16. Its DPT config also
# has lr_mult=0.1 for the backbone, which does nothing: a cycle with one peak
# sets the rate of each group.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01
    ),
    constructor='mmdense.GroupedOptimWrapperConstructor',
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            'pos_embed': dict(decay_mult=0.0),
            'cls_token': dict(decay_mult=0.0),
        },
    ),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(
        type='OneCycleLR',
        eta_max=1e-4,
        total_steps=24,
        pct_start=0.3,
        div_factor=25,
        final_div_factor=100,
        by_epoch=True,
        end=24,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=24, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=16)
