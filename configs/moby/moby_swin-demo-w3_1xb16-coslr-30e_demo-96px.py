# A small Swin on the demo images: minutes on two CPU cores.
_base_ = [
    '../_base_/models/swin-tiny-w7_moby.py',
    '../_base_/datasets/demo_moby_two_view.py',
    '../_base_/schedules/moby_adamw_coslr-30e_16.py',
    '../_base_/student_teacher_runtime.py',
]

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=48,
            depths=(2, 2, 2, 2),
            num_heads=(2, 4, 8, 16),
        ),
        img_size=96,
        # the maps have 24, 12, 6 and 3 positions a side
        window_size=3,
    ),
    neck=dict(in_channels=384, hid_channels=512, out_channels=128),
    predictor=dict(in_channels=128, hid_channels=512, out_channels=128),
    loss=dict(channels=128, queue_size=512),
)
default_hooks = dict(
    logger=dict(interval=5),
    checkpoint=dict(interval=10, max_keep_ckpts=2),
    collapse_monitor=dict(warmup=200),
    feature_monitor=dict(interval=25),
)
