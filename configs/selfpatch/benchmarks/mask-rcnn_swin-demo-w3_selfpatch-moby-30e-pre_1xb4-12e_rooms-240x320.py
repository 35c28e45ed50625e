# Instance segmentation of the demo rooms; minutes on two CPU
# cores. model.backbone.init_cfg.checkpoint names the backbone to start from.
_base_ = [
    '../../_base_/models/demo_mask-rcnn.py',
    '../../_base_/datasets/rooms_instance.py',
    '../../_base_/schedules/rooms_adamw_b8.py',
    '../../_base_/det_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdense.SwinTransformer',
        arch=dict(
            embed_dims=48,
            depths=(2, 2, 2, 2),
            num_heads=(2, 4, 8, 16),
        ),
        img_size=96,
        window_size=3,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.0,
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    neck=dict(in_channels=[48, 96, 192, 384], out_channels=96),
)
optim_wrapper = dict(optimizer=dict(lr=4e-4))
train_cfg = dict(max_epochs=12, val_interval=4)
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=4, max_keep_ckpts=2),
)
benchmark = dict(
    protocol='selfpatch-demo-mask-rcnn-12e',
    dataset='mmdense demo rooms',
    split='val',
    pretraining=dict(
        method='MoBY + SelfPatch',
        epochs=30,
        data='mmdense demo images',
        config='selfpatch-moby_swin-demo-w3_1xb16-coslr-30e_demo-96px',
    ),
)
