# mmseg's ADE20K recipe: 512x512 crops, batch 16 on 8 GPUs.
_base_ = ['mmseg::_base_/datasets/ade20k.py']

train_dataloader = dict(batch_size=2, num_workers=4)
