# Relative depth of the demo rooms: scale and shift are fitted per image in the
# test. model.backbone.init_cfg.checkpoint names the backbone to start from.
_base_ = [
    '../../_base_/models/vit-base-p16_dpt-depth.py',
    '../../_base_/datasets/rooms_depth.py',
    '../../_base_/schedules/rooms_adamw_b8.py',
    '../../_base_/depth_runtime.py',
]

model = dict(
    # of the pre-training
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=192,
            num_layers=6,
            num_heads=3,
            feedforward_channels=768,
        ),
        img_size=160,
        out_indices=[1, 2, 3, 5],
    ),
    decode_head=dict(
        in_channels=[192, 192, 192, 192],
        reassemble_channels=[24, 48, 96, 192],
        channels=64,
    ),
)
val_evaluator = dict(
    alignment='least_squares', alignment_space='inverse', prediction='inverse'
)
test_evaluator = val_evaluator
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=20, save_best='depth/abs_rel', rule='less'),
)
benchmark = dict(
    protocol='dpt-demo-relative-20e',
    dataset='mmdense demo rooms',
    split='val',
    pretraining=dict(
        method='LocalGlobal',
        epochs=70,
        data='mmdense demo images',
        config='local-global_vit-demo-p16_1xb32-coslr-70e_demo-96px',
    ),
)
