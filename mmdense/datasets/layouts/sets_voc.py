"""PASCAL VOC: segmentation with SBD's masks, detection on 2007 and 2012."""

from .parts import LabelPairs, Layout, Step, VocList

NAMES = (
    *('aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car'),
    *('cat', 'chair', 'cow', 'diningtable', 'dog', 'horse', 'motorbike'),
    *('person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor'),
)
_PAGE = 'http://host.robots.ox.ac.uk/pascal/VOC/'
_DEVKIT = (
    'mkdir -p data',
    'wget http://host.robots.ox.ac.uk/pascal/VOC/voc2012/'
    'VOCtrainval_11-May-2012.tar',
    'tar -xf VOCtrainval_11-May-2012.tar -C data',
)


def _masks(key: str, split: str, kind: str, count: int) -> LabelPairs:
    return LabelPairs(
        key=key,
        split=split,
        tasks=('segmentation',),
        step='convert' if kind.endswith('Aug') else 'get',
        images='JPEGImages',
        labels=kind,
        list_file=f'ImageSets/Segmentation/{key.split(".")[0]}.txt',
        count=count,
        classes=(0, 20),
    )


VOC2012_AUG = Layout(
    name='voc2012aug',
    title='PASCAL VOC 2012 with the masks of SBD ("VOC aug")',
    root='data/VOCdevkit/VOC2012',
    parts=(
        _masks('train.pairs', 'train', 'SegmentationClass', 1_464),
        _masks('aug.pairs', 'train', 'SegmentationClassAug', 9_118),
        _masks('val.pairs', 'val', 'SegmentationClass', 1_449),
    ),
    page=_PAGE,
    access='no registration; 2 GB (VOC 2012) and 1.4 GB (SBD)',
    steps=(
        Step('get', 'Fetch and unpack VOC 2012 train/val.', _DEVKIT),
        Step(
            'convert',
            'Fetch the Semantic Boundaries Dataset and turn its masks into '
            'label maps. The list aug.txt holds its 9,118 images that are '
            'in neither list of VOC; with the 1,464 of train.txt they make '
            'the 10,582 training images.',
            (
                'wget http://www.eecs.berkeley.edu/Research/Projects/CS/'
                'vision/grouping/semantic_contours/benchmark.tgz',
                'tar -xf benchmark.tgz -C data/VOCdevkit '
                '&& mv data/VOCdevkit/benchmark_RELEASE '
                'data/VOCdevkit/VOCaug',
                'python $MMSEG/.mim/tools/dataset_converters/voc_aug.py '
                'data/VOCdevkit data/VOCdevkit/VOCaug --nproc 8',
            ),
        ),
    ),
    stock=('mmseg::_base_/datasets/pascal_voc12_aug.py',),
    configs=('voc12aug*.py', 'pascal_voc12_aug*.py'),
)


PASCAL_CONTEXT = Layout(
    name='pascal-context',
    title='PASCAL Context, 59 classes',
    root='data/VOCdevkit/VOC2010',
    parts=tuple(
        LabelPairs(
            key=f'{split}.pairs',
            split=split,
            tasks=('segmentation',),
            step='convert',
            images='JPEGImages',
            labels='SegmentationClassContext',
            list_file=f'ImageSets/SegmentationContext/{split}.txt',
            count=count,
            classes=(0, 59),
            ignore=None,
        )
        for split, count in (('train', 4_998), ('val', 5_105))
    ),
    page='https://cs.stanford.edu/~roozbeh/pascal-context/',
    access='no registration; 1.3 GB (VOC 2010)',
    steps=(
        Step(
            'get',
            'Fetch and unpack VOC 2010 train/val.',
            (
                'mkdir -p data',
                'wget http://host.robots.ox.ac.uk/pascal/VOC/voc2010/'
                'VOCtrainval_03-May-2010.tar',
                'tar -xf VOCtrainval_03-May-2010.tar -C data',
            ),
        ),
        Step(
            'convert',
            'Install the Detail API, fetch trainval_merged.json and draw the '
            'label maps and lists.',
            (
                'pip install "git+https://github.com/zhanghang1989/'
                'detail-api.git#subdirectory=PythonAPI"',
                'wget -P data/VOCdevkit/VOC2010 '
                'https://codalabuser.blob.core.windows.net/public/'
                'trainval_merged.json',
                'python $MMSEG/.mim/tools/dataset_converters/'
                'pascal_context.py data/VOCdevkit '
                'data/VOCdevkit/VOC2010/trainval_merged.json',
            ),
        ),
    ),
    stock=('mmseg::_base_/datasets/pascal_context_59.py',),
    configs=('pascal-context*.py', 'pascal_context*.py'),
    notes=(
        '0 is the background, which is not scored: the configs load it with '
        'reduce_zero_label=True.',
    ),
)


def _boxes(key: str, split: str, year: str, count: int) -> VocList:
    name = key.split('.')[1]
    return VocList(
        key=key,
        split=split,
        tasks=('detection',),
        step=f'get {year}',
        list_file=f'{year}/ImageSets/Main/{name}.txt',
        images=f'{year}/JPEGImages',
        boxes=f'{year}/Annotations',
        count=count,
        names=NAMES,
    )


VOC0712 = Layout(
    name='voc0712',
    title='PASCAL VOC 2007 and 2012, boxes',
    root='data/VOCdevkit',
    parts=(
        _boxes('2007.trainval', 'train', 'VOC2007', 5_011),
        _boxes('2012.trainval', 'train', 'VOC2012', 11_540),
        _boxes('2007.test', 'test', 'VOC2007', 4_952),
    ),
    page=_PAGE,
    access='no registration; 0.9 GB (2007) and 2 GB (2012)',
    steps=(
        Step(
            'get VOC2007',
            'Fetch and unpack VOC 2007 train/val and test into the same '
            'folder.',
            (
                'mkdir -p data',
                'wget http://host.robots.ox.ac.uk/pascal/VOC/voc2007/'
                'VOCtrainval_06-Nov-2007.tar',
                'wget http://host.robots.ox.ac.uk/pascal/VOC/voc2007/'
                'VOCtest_06-Nov-2007.tar',
                'tar -xf VOCtrainval_06-Nov-2007.tar -C data',
                'tar -xf VOCtest_06-Nov-2007.tar -C data',
            ),
        ),
        Step('get VOC2012', 'Fetch and unpack VOC 2012 train/val.', _DEVKIT),
    ),
    stock=('mmdet::_base_/datasets/voc0712.py',),
    configs=('voc0712*.py',),
)
