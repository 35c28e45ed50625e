# mmdet's Cityscapes recipe: an epoch of the schedule is 8 of the data. Box
# and mask AP are those of COCO; mmdet adds the mask AP of Cityscapes' own
# scripts, which needs the package cityscapesscripts.
_base_ = ['mmdet::_base_/datasets/cityscapes_instance.py']

train_dataloader = dict(num_workers=4)
val_evaluator = [
    dict(
        type='mmdet.CocoMetric',
        ann_file='data/cityscapes/annotations/'
        'instancesonly_filtered_gtFine_val.json',
        metric=['bbox', 'segm'],
    )
]
test_evaluator = val_evaluator
