"""COCO 2017 and COCO-Stuff 164k."""

from .parts import CocoFile, ImageFolder, LabelPairs, Layout, Step

_SEG = ('segmentation',)
_COUNTS = (('train', 118_287), ('val', 5_000))

COCO = Layout(
    name='coco',
    title='COCO 2017',
    root='data/coco',
    parts=(
        ImageFolder(
            key='train.images',
            split='train',
            tasks=('pretraining', 'detection'),
            folder='train2017',
            count=118_287,
            flat=True,
        ),
        ImageFolder(
            key='val.images',
            split='val',
            tasks=('detection',),
            folder='val2017',
            count=5_000,
            flat=True,
        ),
        CocoFile(
            key='train.json',
            split='train',
            tasks=('detection',),
            file='annotations/instances_train2017.json',
            images='train2017',
            count=118_287,
            annotated=117_266,
            instances=860_001,
            categories=80,
        ),
        CocoFile(
            key='val.json',
            split='val',
            tasks=('detection',),
            file='annotations/instances_val2017.json',
            images='val2017',
            count=5_000,
            annotated=4_952,
            instances=36_781,
            categories=80,
        ),
    ),
    page='https://cocodataset.org/#download',
    access='no registration; 19 GB',
    steps=(
        Step(
            'get',
            'Fetch 2017 Train images, 2017 Val images and 2017 Train/Val '
            'annotations. ($MMDET/.mim/tools/misc/download_dataset.py '
            'fetches the test and unlabelled images as well.)',
            (
                'mkdir -p data/coco',
                'wget http://images.cocodataset.org/zips/train2017.zip '
                'http://images.cocodataset.org/zips/val2017.zip '
                'http://images.cocodataset.org/annotations/'
                'annotations_trainval2017.zip',
                'for f in train2017 val2017 annotations_trainval2017; do '
                'unzip $f.zip -d data/coco; done',
            ),
        ),
    ),
    stock=(
        'mmdet::_base_/datasets/coco_detection.py',
        'mmdet::_base_/datasets/coco_instance.py',
    ),
    configs=(
        'coco_instance*.py',
        'coco_detection*.py',
        'coco_moby_two_view.py',
        'coco_multi_crop.py',
    ),
    notes=(
        'Pre-training reads the training images alone: '
        '--task pretraining leaves the rest out.',
    ),
)

COCO_STUFF = Layout(
    name='coco-stuff164k',
    title='COCO-Stuff 164k',
    root='data/coco_stuff164k',
    parts=tuple(
        LabelPairs(
            key=f'{split}.pairs',
            split=split,
            tasks=_SEG,
            step='convert',
            images=f'images/{split}2017',
            labels=f'annotations/{split}2017',
            label_suffix='_labelTrainIds.png',
            source_suffix='.png',
            count=count,
            classes=(0, 170),
        )
        for split, count in _COUNTS
    ),
    page='https://github.com/nightrome/cocostuff',
    access='no registration; 19 GB of images (those of COCO 2017) and '
    '0.7 GB of label maps',
    steps=(
        Step(
            'get',
            'Fetch the images of COCO 2017 (links do) and '
            'stuffthingmaps_trainval2017.zip.',
            (
                'mkdir -p data/coco_stuff164k/images '
                'data/coco_stuff164k/annotations',
                'ln -s ../../coco/train2017 ../../coco/val2017 '
                'data/coco_stuff164k/images/',
                'wget http://calvin.inf.ed.ac.uk/wp-content/uploads/data/'
                'cocostuffdataset/stuffthingmaps_trainval2017.zip',
                'unzip stuffthingmaps_trainval2017.zip '
                '-d data/coco_stuff164k/annotations',
            ),
        ),
        Step(
            'convert',
            'Number the 171 classes from 0 to 170; the result lies beside '
            'the original label maps.',
            (
                'python $MMSEG/.mim/tools/dataset_converters/'
                'coco_stuff164k.py data/coco_stuff164k --nproc 8',
            ),
        ),
    ),
    stock=('mmseg::_base_/datasets/coco-stuff164k.py',),
    configs=('coco-stuff164k*.py',),
)
