# mmseg's recipe for VOC 2012 with the masks of SBD: 10,582 images, 512x512
# crops, batch 16 on 8 GPUs.
_base_ = ['mmseg::_base_/datasets/pascal_voc12_aug.py']

train_dataloader = dict(batch_size=2, num_workers=4)
