# The images that come with the repository; six small crops for a CPU, with
# the augmentation of imagenet_multi_crop.py.

# in every view
augmentation = dict(
    ratio=(3 / 4, 4 / 3),
    interpolation='bicubic',
    flip_prob=0.5,
    jitter_prob=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    gray_prob=0.2,
    # sigma in pixels, in proportion to the views
    sigma=(0.1, 1.0),
    blur_limit=None,
)
views = [
    dict(size=96, scale=(0.25, 1.0), blur_prob=1.0, **augmentation),
    dict(
        size=96,
        scale=(0.25, 1.0),
        blur_prob=0.1,
        solarize_prob=0.2,
        **augmentation,
    ),
    dict(num=4, size=48, scale=(0.05, 0.25), blur_prob=0.5, **augmentation),
]

train_pipeline = [
    dict(type='mmdense.MultiViewCrops', views=views),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='mmdense.SeededSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmdense.UnlabeledImages',
        paths=['photos', 'rooms/train', 'video/JPEGImages/480p'],
        data_root='demo/data',
        pipeline=train_pipeline,
    ),
)
