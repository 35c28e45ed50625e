# ImageNet-1k train, labels unused, two views of the policy of SimCLR.
data_root = 'data/imagenet/train'

train_pipeline = [
    dict(
        type='mmdense.MultiViewCrops',
        views=[
            dict(
                num=2,
                size=224,
                scale=(0.08, 1.0),
                ratio=(3 / 4, 4 / 3),
                flip_prob=0.5,
                jitter_prob=0.8,
                brightness=0.8,
                contrast=0.8,
                saturation=0.8,
                hue=0.2,
                gray_prob=0.2,
                blur_prob=0.5,
                sigma=(0.1, 2.0),
            )
        ],
    ),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='mmdense.SeededSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmdense.UnlabeledImages',
        paths='.',
        data_root=data_root,
        cache_file='work_dirs/image_index/imagenet_train.npz',
        pipeline=train_pipeline,
    ),
)
