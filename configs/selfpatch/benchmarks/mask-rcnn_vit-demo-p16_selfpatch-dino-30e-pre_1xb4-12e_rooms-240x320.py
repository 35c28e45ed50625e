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
        type='mmdense.VisionTransformer',
        arch=dict(
            embed_dims=192,
            num_layers=6,
            num_heads=3,
            feedforward_channels=768,
        ),
        img_size=96,
        patch_size=16,
        out_type='featmap',
        out_indices=[2, 3, 4, 5],
        with_cls_token=False,
        final_norm=False,
        interpolate_mode='bicubic',
        pos_embed_rule='scale',
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    neck=[
        dict(
            type='mmseg.Feature2Pyramid',
            embed_dim=192,
            rescales=[4, 2, 1, 0.5],
            norm_cfg=dict(type='SyncBN', requires_grad=True),
        ),
        dict(
            type='mmdet.FPN',
            in_channels=[192, 192, 192, 192],
            out_channels=96,
            num_outs=5,
        ),
    ],
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
        method='DINO + SelfPatch',
        epochs=30,
        data='mmdense demo images',
        config='selfpatch-dino_vit-demo-p16_1xb16-coslr-30e_demo-96px',
    ),
)
