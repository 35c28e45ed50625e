"""Mixtures for relative depth, and the sets of zero-shot transfer."""

from typing import Tuple

from .parts import Layout, Part, Step
from .parts_depth import ROOM, DepthPairs, PointList, ScenePairs, TimedPairs
from .sets_depth import kitti_list, nyu_list

_DEPTH = ('depth',)
# name, where it comes from, whether inverse depth is stored
_SETS = {
    'hrwsi': (
        'https://github.com/KexianHust/Structure-Guided-Ranking-Loss',
        True,
    ),
    'blendedmvs': ('https://github.com/YoYo000/BlendedMVS', False),
    'redweb': ('https://sites.google.com/site/redwebcvpr18/', True),
    'diml_indoor': ('https://dimlrgbd.github.io/', False),
    'megadepth': ('https://www.cs.cornell.edu/projects/megadepth/', False),
    'wsvd': ('https://sites.google.com/view/wsvd/home', True),
    'movies3d': ('from stereo films of your own, as in MiDaS', True),
    'tartanair': ('https://theairlab.org/tartanair-dataset/', False),
    'apolloscape': ('http://apolloscape.auto/scene.html', False),
    'irs': ('https://github.com/HKBU-HPML/IRS', True),
}
_MIX3 = ('hrwsi', 'blendedmvs', 'redweb')
_FORM = (
    'Every set is a generic RGB-D folder: data/<name>/<split>/images and '
    'depth with equal names, .jpg and .png. Maps may be of 8 or 16 bits, 0 is '
    'invalid (sky and outliers, too). Stored is inverse depth for {inverse}, '
    'depth for the others.'
)


def _folder(name: str, split: str) -> DepthPairs:
    metric = name == 'diml_indoor'
    return DepthPairs(
        key=f'{name}.{split}',
        split=name,
        tasks=_DEPTH,
        step=f'get {name}',
        images=f'{name}/{split}/images',
        labels=f'{name}/{split}/depth',
        bits=8,
        inverse=_SETS[name][1],
        plausible=ROOM if metric else None,
    )


def _mixture(name: str, title: str, sets: Tuple[str, ...]) -> Layout:
    parts = [
        *(_folder(one, 'train') for one in sets),
        *(_folder(one, 'val') for one in _MIX3),
    ]
    inverse = ', '.join(one for one in sets if _SETS[one][1])
    return Layout(
        name=name,
        title=title,
        root='data',
        parts=tuple(parts),
        access='pages and licences of their own',
        steps=tuple(
            Step(
                f'get {one}',
                f'Fetch {one} ({_SETS[one][0]}) and bring it into data/{one}.',
            )
            for one in sets
        ),
        configs=(f'{name}_relative*.py',),
        notes=(
            _FORM.format(inverse=inverse),
            'One set alone: check.py depth data/hrwsi/train --scale 0',
        ),
    )


MIX3 = _mixture('mix3', 'HRWSI, BlendedMVS and ReDWeb, relative depth', _MIX3)
MIX10 = _mixture(
    'mix10',
    'MIX 6, ten sets of relative depth',
    (
        *('diml_indoor', 'megadepth', 'redweb', 'wsvd', 'movies3d'),
        *('tartanair', 'hrwsi', 'apolloscape', 'blendedmvs', 'irs'),
    ),
)


def _zero_shot() -> Tuple[Part, ...]:
    return (
        PointList(
            key='diw.list',
            split='diw',
            tasks=_DEPTH,
            step='get diw',
            list_file='diw/DIW_test.csv',
            root='diw',
            pattern='DIW_test/*.thumb',
            count=74_441,
        ),
        ScenePairs(
            key='eth3d.scenes',
            split='eth3d',
            tasks=_DEPTH,
            step='get eth3d',
            root='eth3d',
            images='{scene}/images/dslr_images',
            depths='{scene}/ground_truth_depth/dslr_images/{name}',
            image_suffixes=('.JPG',),
            count=454,
            what='depth, bare float32 of the size of the image',
        ),
        ScenePairs(
            key='sintel.scenes',
            split='sintel',
            tasks=_DEPTH,
            step='get sintel',
            root='sintel/training',
            scenes='final',
            images='final/{scene}',
            depths='depth/{scene}/{stem}.dpt',
            image_suffixes=('.png',),
            count=1_064,
            coding='dpt',
        ),
        kitti_list('test', 652, 45, 'kitti'),
        nyu_list('test', 654, 'nyu'),
        TimedPairs(
            key='tum.sequences',
            split='tum',
            tasks=_DEPTH,
            step='get tum',
            root='tum',
            plausible=(0.3, 12.0),
        ),
    )


ZERO_SHOT = Layout(
    name='zero-shot',
    title='Six sets of zero-shot depth',
    root='data',
    parts=_zero_shot(),
    access='pages and licences of their own',
    steps=(
        Step('get', 'KITTI: see kitti-eigen.'),
        Step('test', 'NYU Depth V2: see nyu.'),
        Step(
            'get diw',
            'Fetch the test part of Depth in the Wild '
            '(http://www-personal.umich.edu/~wfchen/depth-in-the-wild/) into '
            'data/diw.',
        ),
        Step(
            'get eth3d',
            'Fetch the training scenes of the high-resolution multi-view '
            'part, distorted images and depth (https://www.eth3d.net), into '
            'data/eth3d.',
        ),
        Step(
            'get sintel',
            'Fetch the training images and the depth '
            '(http://sintel.is.tue.mpg.de/depth) into data/sintel.',
        ),
        Step(
            'get tum',
            'Fetch sequences '
            '(https://cvg.cit.tum.de/data/datasets/rgbd-dataset) into '
            'data/tum.',
        ),
    ),
    configs=('zero-shot_depth*.py',),
    notes=(
        'Sets that are not there are left out of the test; check one with '
        '--split, as in: check.py zero-shot --split eth3d',
    ),
)
