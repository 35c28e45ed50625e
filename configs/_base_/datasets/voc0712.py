# mmdet's VOC recipe: trainval of 2007 and 2012, an epoch of the schedule is 3
# of the data; AP50 on the test images of 2007 with 11 recall points.
_base_ = ['mmdet::_base_/datasets/voc0712.py']

train_dataloader = dict(num_workers=4)
