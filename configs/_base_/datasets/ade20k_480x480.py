# ADE20K for DPT: sides from 520, crops of 480x480, flips and nothing else.
# One scale while training; tools/test.py --tta tests with six, and flipped.
_base_ = ['mmseg::_base_/datasets/ade20k.py']

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmseg.LoadAnnotations', reduce_zero_label=True),
    dict(
        type='RandomResize',
        scale=(520, 520),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
        resize_type='mmseg.Resize',
    ),
    dict(type='mmseg.RandomCrop', crop_size=(480, 480), cat_max_ratio=1.0),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmseg.PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdense.DPTResize', scale=(480, 480), multiple=32),
    # after the resizing: the truth keeps its size
    dict(type='mmseg.LoadAnnotations', reduce_zero_label=True),
    dict(type='mmseg.PackSegInputs'),
]
tta_model = dict(type='mmseg.SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(
                    type='mmseg.Resize',
                    scale=(round(520 * ratio), round(520 * ratio)),
                    keep_ratio=True,
                )
                for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            [
                dict(type='mmseg.RandomFlip', prob=0.0),
                dict(type='mmseg.RandomFlip', prob=1.0),
            ],
            [dict(type='mmseg.LoadAnnotations', reduce_zero_label=True)],
            [dict(type='mmseg.PackSegInputs')],
        ],
    ),
]
train_dataloader = dict(
    batch_size=6, num_workers=4, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
