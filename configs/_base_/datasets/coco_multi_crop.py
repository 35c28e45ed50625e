# The images of COCO train2017, annotations unused; the ten crops of
# imagenet_multi_crop.py.
_base_ = ['./imagenet_multi_crop.py']

data_root = 'data/coco/train2017'

train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        data_root=data_root,
        cache_file='work_dirs/image_index/coco_train2017.npz',
    ),
)
