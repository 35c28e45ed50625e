# mmseg's COCO-Stuff recipe: 171 classes on the images of COCO 2017, 512x512
# crops, batch 16 on 8 GPUs.
_base_ = ['mmseg::_base_/datasets/coco-stuff164k.py']

train_dataloader = dict(batch_size=2, num_workers=4)
