# A six-layer ViT on the demo images: minutes on two CPU cores.
_base_ = [
    '../_base_/models/vit-small-p16_selfpatch-moby.py',
    '../_base_/datasets/demo_moby_two_view.py',
    '../_base_/schedules/moby_adamw_coslr-30e_16.py',
    '../_base_/selfpatch_runtime.py',
]

model = dict(
    method=dict(
        backbone=dict(
            arch=dict(
                _delete_=True,
                embed_dims=192,
                num_layers=6,
                num_heads=3,
                feedforward_channels=768,
            ),
            img_size=96,
        ),
        neck=dict(in_channels=192, hid_channels=512, out_channels=128),
        predictor=dict(in_channels=128, hid_channels=512, out_channels=128),
        loss=dict(channels=128, queue_size=512),
    ),
    aggregation=dict(embed_dims=192, num_heads=3),
    patch_head=dict(in_channels=192, hid_channels=512, out_channels=128),
    patch_predictor=dict(in_channels=128, hid_channels=512, out_channels=128),
    patch_loss=dict(channels=128, queue_size=512),
)
default_hooks = dict(
    logger=dict(interval=5),
    checkpoint=dict(interval=10, max_keep_ckpts=2),
    collapse_monitor=dict(warmup=200),
    feature_monitor=dict(interval=25),
    match_monitor=dict(interval=25),
)
