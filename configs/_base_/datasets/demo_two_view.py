# The images that come with the repository; small views for a CPU.
image_size = 96

train_pipeline = [
    dict(
        type='mmdense.MultiViewCrops',
        views=[
            dict(
                num=2,
                size=image_size,
                scale=(0.15, 1.0),
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.1,
                # sigma in pixels, in proportion to the view
                sigma=(0.1, 1.0),
            )
        ],
    ),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
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
