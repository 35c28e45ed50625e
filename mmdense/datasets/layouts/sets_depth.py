"""Data sets with depth, and the demo rooms, which have everything."""

from typing import Optional

from .parts import CocoFile, H5Folder, LabelPairs, Layout, Step
from .parts_depth import ROOM, DepthList, DepthPairs, LabelledMat

_DEPTH = ('depth',)
_BTS = 'https://raw.githubusercontent.com/cleinc/bts/master/train_test_inputs'

NYU_H5 = Layout(
    name='nyu-h5',
    title='NYU Depth V2 as HDF5 (Sparse-to-Dense, FastDepth)',
    root='data/nyudepthv2',
    parts=(
        H5Folder(
            key='train.files',
            split='train',
            tasks=('depth',),
            folder='train',
            pattern='<scene>/*.h5',
            count=47_584,
            plausible=ROOM,
        ),
        H5Folder(
            key='official.files',
            split='official',
            tasks=('depth',),
            folder='val/official',
            count=654,
            plausible=ROOM,
        ),
    ),
    page='https://github.com/dwofk/fast-depth',
    access='no registration; 32 GB',
    steps=(
        Step(
            'get',
            'Fetch and unpack the files that FastDepth prepared.',
            (
                'mkdir -p data',
                'wget http://datasets.lids.mit.edu/fastdepth/data/'
                'nyudepthv2.tar.gz',
                'tar -xf nyudepthv2.tar.gz -C data',
            ),
        ),
    ),
    configs=('nyu_*_h5.py',),
)


def nyu_list(split: str, count: int, folder: str = '') -> DepthList:
    """A list of BTS with the files of NYU Depth V2.

    Args:
        split (str): 'train' or 'test'.
        count (int): Lines of the list.
        folder (str): Folder of the set in the root. Defaults to ''.

    Returns:
        DepthList: The part.
    """
    base = f'{folder}/' if folder else ''
    test = 'official_splits/test'
    here = 'sync' if split == 'train' else test
    roots = ('sync', test) if split == 'train' else (test, 'sync')
    places = tuple(f'{base}{root}' for root in roots) + (folder,)
    return DepthList(
        key=f'{folder or split}.list',
        split=folder or split,
        tasks=_DEPTH,
        step='get' if split == 'train' else 'test',
        list_file=f'{base}nyu_{split}.txt',
        image_roots=places,
        depth_roots=places,
        count=count,
        plausible=ROOM,
        trees=(
            (f'{base}{here}/<scene>/rgb_*.jpg', 'images of the list'),
            (
                f'{base}{here}/<scene>/sync_depth_*.png',
                'depth, 16 bits, 1000 a metre',
            ),
        ),
        needed=(f'{base}{here}',),
    )


NYU = Layout(
    name='nyu',
    title='NYU Depth V2, lists of BTS',
    root='data/nyu',
    parts=(nyu_list('train', 24_231), nyu_list('test', 654)),
    page='https://github.com/cleinc/bts',
    access='no registration; 4 GB (train) and 2.8 GB (labelled, for test)',
    steps=(
        Step(
            'get',
            'Fetch sync.zip, which the page of BTS links, and the lists.',
            (
                'mkdir -p data/nyu && unzip sync.zip -d data/nyu',
                f'wget -O data/nyu/nyu_train.txt {_BTS}/'
                'nyudepthv2_train_files_with_gt.txt',
                f'wget -O data/nyu/nyu_test.txt {_BTS}/'
                'nyudepthv2_test_files_with_gt.txt',
            ),
        ),
        Step(
            'test',
            'Fetch the labelled part and take the test images out of it with '
            'the script of BTS.',
            (
                'wget -P data/nyu http://horatio.cs.nyu.edu/mit/silberman/'
                'nyu_depth_v2/nyu_depth_v2_labeled.mat',
                'wget -P data/nyu http://horatio.cs.nyu.edu/mit/silberman/'
                'indoor_seg_sup/splits.mat',
                'git clone https://github.com/cleinc/bts',
                'python bts/utils/'
                'extract_official_train_test_set_from_mat.py '
                'data/nyu/nyu_depth_v2_labeled.mat data/nyu/splits.mat '
                'data/nyu/official_splits',
            ),
        ),
    ),
    configs=('nyu_bts_list*.py',),
    notes=(
        'Paths of the lists may start with / and be relative to sync, '
        'official_splits/test or the root.',
    ),
)

NYU_MAT = Layout(
    name='nyu-mat',
    title='NYU Depth V2, the labelled part',
    root='data/nyu',
    parts=tuple(
        LabelledMat(
            key=f'{split}.mat',
            split=split,
            tasks=_DEPTH,
            mat_file='nyu_depth_v2_labeled.mat',
            split_file='splits.mat',
            split_key=f'{split}Ndxs',
            images=1_449,
            count=count,
            plausible=ROOM,
        )
        for split, count in (('train', 795), ('test', 654))
    ),
    page='https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html',
    access='no registration; 2.8 GB',
    steps=(
        Step(
            'get',
            'Fetch the labelled part and its split.',
            (
                'mkdir -p data/nyu',
                'wget -P data/nyu http://horatio.cs.nyu.edu/mit/silberman/'
                'nyu_depth_v2/nyu_depth_v2_labeled.mat',
                'wget -P data/nyu http://horatio.cs.nyu.edu/mit/silberman/'
                'indoor_seg_sup/splits.mat',
            ),
        ),
    ),
    configs=('nyu_mat*.py',),
    notes=('splits.mat numbers the images from 1.',),
)


def kitti_list(
    split: str, count: int, without: Optional[int], folder: str = ''
) -> DepthList:
    """A list of BTS with the files of KITTI.

    Args:
        split (str): 'train' or 'test'.
        count (int): Lines with depth.
        without (int, optional): Lines without.
        folder (str): Folder of the set in the root. Defaults to ''.

    Returns:
        DepthList: The part.
    """
    base = f'{folder}/' if folder else ''
    annotated = f'{base}data_depth_annotated'
    below = 'proj_depth/groundtruth/image_02/*.png'
    return DepthList(
        key=f'{folder or split}.list',
        split=folder or split,
        tasks=_DEPTH,
        list_file=f'{base}kitti_eigen_{split}.txt',
        image_roots=(f'{base}raw', f'{base}input', folder),
        depth_roots=(
            *(f'{annotated}/train', f'{annotated}/val', annotated),
            *(f'{base}gt_depth', folder),
        ),
        image_suffixes=('.jpg', '.png'),
        count=count,
        without=without,
        scale=1 / 256,
        plausible=(1.0, 90.0),
        trees=(
            (
                f'{base}raw/<date>/<drive>/image_02/data/*.png',
                'images of the lists',
            ),
            (
                f'{annotated}/train/<drive>/{below}',
                'depth, 16 bits, 256 a metre',
            ),
            (f'{annotated}/val/<drive>/{below}', 'the same'),
        ),
        needed=(f'{base}raw', annotated),
    )


KITTI = Layout(
    name='kitti-eigen',
    title='KITTI, split of Eigen et al.',
    root='data/kitti',
    parts=(
        kitti_list('train', 23_158, None),
        kitti_list('test', 652, 45),
    ),
    page='https://www.cvlibs.net/datasets/kitti/eval_depth.php',
    access='registration needed; 175 GB of raw drives and 14 GB of depth',
    steps=(
        Step(
            'get',
            'Fetch the raw drives (BTS lists their archives), the annotated '
            'depth and the lists.',
            (
                'mkdir -p data/kitti/raw data/kitti/data_depth_annotated',
                'wget -P data/kitti/raw -i https://raw.githubusercontent.com/'
                'cleinc/bts/master/utils/kitti_archives_to_download.txt',
                "cd data/kitti/raw && unzip '*.zip' && cd -",
                'wget https://s3.eu-central-1.amazonaws.com/avg-kitti/'
                'data_depth_annotated.zip',
                'unzip data_depth_annotated.zip '
                '-d data/kitti/data_depth_annotated',
                f'wget -O data/kitti/kitti_eigen_train.txt {_BTS}/'
                'eigen_train_files_with_gt.txt',
                f'wget -O data/kitti/kitti_eigen_test.txt {_BTS}/'
                'eigen_test_files_with_gt.txt',
            ),
        ),
    ),
    configs=('kitti_eigen*.py',),
    notes=(
        'Images may be .jpg under the names of the lists. 45 of the 697 '
        'lines of the test list have None for depth; 652 images are scored.',
    ),
)


def _cities(split: str, count: int) -> DepthPairs:
    extra = split == 'train_extra'
    return DepthPairs(
        key=f'{split}.pairs',
        split=split,
        tasks=_DEPTH,
        step='extra' if extra else 'get',
        optional=extra,
        images=f'leftImg8bit/{split}',
        labels=f'disparity/{split}',
        cameras=f'camera/{split}',
        image_suffix='_leftImg8bit.png',
        label_suffix='_disparity.png',
        count=count,
        size=(1024, 2048),
        nested='<city>/',
        plausible=(1.0, 250.0),
    )


CITYSCAPES_DEPTH = Layout(
    name='cityscapes-depth',
    title='Cityscapes, disparity',
    root='data/cityscapes',
    parts=(
        _cities('train', 2_975),
        _cities('val', 500),
        _cities('train_extra', 19_997),
    ),
    page='https://www.cityscapes-dataset.com/downloads/',
    access='registration needed (non-commercial licence); 11 GB of images, '
    '3.5 GB of disparity',
    steps=(
        Step(
            'get',
            'Register, fetch leftImg8bit_trainvaltest.zip, '
            'disparity_trainvaltest.zip and camera_trainvaltest.zip.',
            (
                'mkdir -p data/cityscapes',
                'unzip leftImg8bit_trainvaltest.zip -d data/cityscapes',
                'unzip -n disparity_trainvaltest.zip -d data/cityscapes',
                'unzip -n camera_trainvaltest.zip -d data/cityscapes',
            ),
        ),
        Step(
            'extra',
            'The same of leftImg8bit_trainextra.zip, '
            'disparity_trainextra.zip and camera_trainextra.zip (44 GB of '
            'images), if wanted.',
        ),
    ),
    configs=('cityscapes_depth*.py',),
    notes=(
        'Depth is baseline * fx / disparity, disparity is (p - 1) / 256 for '
        'p > 0.',
    ),
)

_ROOMS = (('train', 160, 933), ('val', 40, 248))
ROOMS = Layout(
    name='rooms',
    title='Rendered demo rooms',
    root='demo/data/rooms',
    parts=(
        *(
            LabelPairs(
                key=f'{split}.pairs',
                split=split,
                tasks=('segmentation',),
                images=split,
                labels=f'semantic/{split}',
                count=views,
                classes=(0, 12),
                size=(240, 320),
            )
            for split, views, _ in _ROOMS
        ),
        *(
            DepthPairs(
                key=f'{split}.depth',
                split=split,
                tasks=('depth',),
                images=split,
                labels=f'depth/{split}',
                count=views,
                size=(240, 320),
                plausible=(0.5, 10.0),
            )
            for split, views, _ in _ROOMS
        ),
        *(
            CocoFile(
                key=f'{split}.json',
                split=split,
                tasks=('detection',),
                file=f'annotations/instances_{split}.json',
                images=split,
                count=views,
                instances=instances,
                categories=10,
            )
            for split, views, instances in _ROOMS
        ),
    ),
    access='comes with the repository',
    steps=(
        Step('get', 'Restore the files.', ('git checkout demo/data/rooms',)),
    ),
    configs=('rooms_*.py',),
)
