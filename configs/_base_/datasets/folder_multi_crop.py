# Your own images: folders, glob patterns, list files, in any mixture.
#   --cfg-options train_dataloader.dataset.paths=/path/to/images
_base_ = ['./imagenet_multi_crop.py']

image_paths = 'data/images'

train_dataloader = dict(
    num_workers=4,
    dataset=dict(
        paths=image_paths,
        data_root='',
        cache_file='work_dirs/image_index/folder.npz',
    ),
)
