# A six-layer ViT on the demo images: minutes on two CPU cores.
_base_ = [
    '../_base_/models/vit-small-p16_selfpatch-dino.py',
    '../_base_/datasets/demo_multi_crop.py',
    '../_base_/schedules/dino_adamw_coslr-30e_16.py',
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
        neck=dict(
            in_channels=192,
            out_channels=512,
            hid_channels=512,
            bottleneck_channels=128,
        ),
        loss=dict(out_channels=512),
        # a short run: the teacher follows faster
        teacher=dict(momentum=0.99),
    ),
    aggregation=dict(embed_dims=192, num_heads=3),
    patch_head=dict(
        in_channels=192,
        out_channels=512,
        hid_channels=512,
        bottleneck_channels=128,
    ),
    patch_loss=dict(out_channels=512),
)
default_hooks = dict(
    logger=dict(interval=5),
    checkpoint=dict(interval=10, max_keep_ckpts=2),
    collapse_monitor=dict(warmup=200),
    feature_monitor=dict(interval=25),
    match_monitor=dict(interval=25),
)
