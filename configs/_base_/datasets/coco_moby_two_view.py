# The images of COCO train2017, annotations unused; the two views of
# imagenet_moby_two_view.py.
_base_ = ['./imagenet_moby_two_view.py']

data_root = 'data/coco/train2017'

train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        data_root=data_root,
        cache_file='work_dirs/image_index/coco_train2017.npz',
    ),
)
