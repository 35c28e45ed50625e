# SelfPatch on MoBY, Swin-T: patches are the 7x7 positions of the last stage.
_base_ = ['./vit-small-p16_selfpatch-moby.py']

model = dict(
    method=dict(
        backbone=dict(
            _delete_=True,
            type='mmdense.SwinTransformer',
            arch='tiny',
            img_size=224,
            window_size=7,
            drop_path_rate=0.2,
            # raw tokens: no norm after the last stage
            norm_cfg=None,
        ),
        neck=dict(in_channels=768),
    ),
    aggregation=dict(embed_dims=768, num_heads=24),
    patch_head=dict(in_channels=768),
)
