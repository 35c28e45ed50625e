"""ADE20K and Cityscapes."""

from .parts import CocoFile, ImageFolder, LabelPairs, Layout, Step

_SEG = ('segmentation',)
_DET = ('detection',)

ADE20K = Layout(
    name='ade20k',
    title='ADE20K, scene parsing challenge 2016',
    root='data/ade/ADEChallengeData2016',
    parts=tuple(
        LabelPairs(
            key=f'{split}.pairs',
            split=split,
            tasks=_SEG,
            images=f'images/{folder}',
            labels=f'annotations/{folder}',
            count=count,
            classes=(0, 150),
            ignore=None,
        )
        for split, folder, count in (
            ('train', 'training', 20_210),
            ('val', 'validation', 2_000),
        )
    ),
    page='http://sceneparsing.csail.mit.edu/',
    access='no registration; 0.9 GB',
    steps=(
        Step(
            'get',
            'Fetch ADEChallengeData2016.zip.',
            (
                'mkdir -p data/ade',
                'wget http://data.csail.mit.edu/places/ADEchallenge/'
                'ADEChallengeData2016.zip',
                'unzip ADEChallengeData2016.zip -d data/ade',
            ),
        ),
    ),
    stock=('mmseg::_base_/datasets/ade20k.py',),
    configs=('ade20k*.py',),
    notes=(
        '0 is "other objects" and is not scored: the configs load it with '
        'reduce_zero_label=True.',
        'The full ADE20K (847 classes and more) is another data set.',
    ),
)


_CITIES = (('train', 2_975), ('val', 500))
CITYSCAPES = Layout(
    name='cityscapes',
    title='Cityscapes, fine annotations',
    root='data/cityscapes',
    parts=(
        *(
            LabelPairs(
                key=f'{split}.pairs',
                split=split,
                tasks=_SEG,
                step='segmentation',
                images=f'leftImg8bit/{split}',
                labels=f'gtFine/{split}',
                image_suffix='_leftImg8bit.png',
                label_suffix='_gtFine_labelTrainIds.png',
                source_suffix='_gtFine_labelIds.png',
                count=count,
                classes=(0, 18),
                size=(1024, 2048),
                nested='<city>/',
            )
            for split, count in _CITIES
        ),
        ImageFolder(
            key='test.images',
            split='test',
            tasks=(*_SEG, *_DET),
            optional=True,
            folder='leftImg8bit/test',
            pattern='<city>/*_leftImg8bit.png',
            suffixes=('_leftimg8bit.png',),
            count=1_525,
        ),
        # CityScapesMetric scores against them
        ImageFolder(
            key='val.instances',
            split='val',
            tasks=_DET,
            folder='gtFine/val',
            pattern='<city>/*_gtFine_instanceIds.png',
            suffixes=('_gtfine_instanceids.png',),
            count=500,
        ),
        *(
            CocoFile(
                key=f'{split}.json',
                split=split,
                tasks=_DET,
                step='detection',
                file=f'annotations/instancesonly_filtered_gtFine_{split}.json',
                images=f'leftImg8bit/{split}',
                count=count,
                categories=8,
            )
            for split, count in _CITIES
        ),
    ),
    page='https://www.cityscapes-dataset.com/downloads/',
    access='registration needed (non-commercial licence); 11 GB',
    steps=(
        Step(
            'get',
            'Register, fetch leftImg8bit_trainvaltest.zip and '
            'gtFine_trainvaltest.zip.',
            (
                'mkdir -p data/cityscapes',
                'unzip leftImg8bit_trainvaltest.zip -d data/cityscapes',
                'unzip -n gtFine_trainvaltest.zip -d data/cityscapes',
            ),
        ),
        Step(
            'segmentation',
            'Draw the label maps of the 19 scored classes.',
            (
                'pip install cityscapesscripts',
                'python $MMSEG/.mim/tools/dataset_converters/cityscapes.py '
                'data/cityscapes --nproc 8',
            ),
        ),
        Step(
            'detection',
            'Write the annotations in the form of COCO.',
            (
                'pip install cityscapesscripts',
                'python $MMDET/.mim/tools/dataset_converters/cityscapes.py '
                'data/cityscapes --nproc 8 '
                '--out-dir data/cityscapes/annotations',
            ),
        ),
    ),
    stock=(
        'mmseg::_base_/datasets/cityscapes.py',
        'mmdet::_base_/datasets/cityscapes_detection.py',
        'mmdet::_base_/datasets/cityscapes_instance.py',
    ),
    configs=('cityscapes_512*.py', 'cityscapes_instance*.py'),
    notes=(
        'Segmentation alone needs no json and detection no label maps of '
        '19 classes: --task leaves the rest out.',
    ),
)
