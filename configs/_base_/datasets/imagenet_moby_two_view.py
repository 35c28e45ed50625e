# ImageNet-1k train, labels unused, two views of 224 px.
# The augmentation of MoBY (Xie et al., "Self-Supervised Learning with Swin
# Transformers", arXiv 2105.04553), which is BYOL's: bilinear crops, and
# solarisation in the second view.
data_root = 'data/imagenet/train'

# in every view
augmentation = dict(
    ratio=(3 / 4, 4 / 3),
    interpolation='bilinear',
    flip_prob=0.5,
    jitter_prob=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    gray_prob=0.2,
    # sigma in pixels; the whole Gaussian
    sigma=(0.1, 2.0),
    blur_limit=None,
)
views = [
    dict(size=224, scale=(0.08, 1.0), blur_prob=1.0, **augmentation),
    dict(
        size=224,
        scale=(0.08, 1.0),
        blur_prob=0.1,
        solarize_prob=0.2,
        **augmentation,
    ),
]

train_pipeline = [
    dict(type='mmdense.MultiViewCrops', views=views),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    batch_size=64,
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
