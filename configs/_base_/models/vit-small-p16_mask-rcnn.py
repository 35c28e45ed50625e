# Mask R-CNN on a plain ViT: raw outputs of blocks 3, 5, 7, 11 to a x4, x2,
# x1, x1/2 pyramid, then FPN.
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py']

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdense.VisionTransformer',
        arch='deit-small',
        # positions stay as pre-trained and are resized for each batch
        img_size=224,
        patch_size=16,
        out_type='featmap',
        out_indices=[3, 5, 7, 11],
        # class-token models set with_cls_token: the token stays in the
        # sequence and is left out of the maps
        with_cls_token=False,
        final_norm=False,
        drop_path_rate=0.05,
        interpolate_mode='bicubic',
        # as in pre-training, and in the official detector
        pos_embed_rule='scale',
        init_cfg=dict(type='mmdense.Pretrained', checkpoint=None),
    ),
    neck=[
        dict(
            type='mmseg.Feature2Pyramid',
            embed_dim=384,
            rescales=[4, 2, 1, 0.5],
            norm_cfg=norm_cfg,
        ),
        dict(
            type='mmdet.FPN',
            in_channels=[384, 384, 384, 384],
            out_channels=256,
            num_outs=5,
        ),
    ],
)
