# mmseg's Cityscapes recipe: 512x1024 crops, batch 8 on 8 GPUs.
_base_ = ['mmseg::_base_/datasets/cityscapes.py']

train_dataloader = dict(batch_size=1, num_workers=4)
