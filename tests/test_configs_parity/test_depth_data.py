"""The numbers of the depth data recipes, written out once more."""

import pytest
from mmengine.config import Config

from mmdense.evaluation.metrics.depth_protocols import resolve
from mmdense.registry import TRANSFORMS, toolbox_installed
from mmdense.testing.launch import ROOT

pytestmark = pytest.mark.skipif(
    not toolbox_installed('mmseg'), reason='mmseg is not installed'
)
FOLDER = ROOT / 'configs' / '_base_' / 'datasets'


def read(name):
    return Config.fromfile(str(FOLDER / f'{name}.py'))


def _steps(pipeline):
    """Steps as (type without scope, options) in their order."""
    steps = []
    for step in pipeline:
        options = {
            key: tuple(value) if isinstance(value, (list, tuple)) else value
            for key, value in step.items()
            if key != 'type'
        }
        steps.append((step['type'].split('.')[-1], options))
    return steps


def _load(kind, **options):
    return [('LoadImage', {}), (kind, options)]


def _rotate(degree, **options):
    return ('RandomRotateDepth', dict(degree=degree, **options))


def _crop(height, width):
    return ('RandomCrop', dict(crop_size=(height, width)))


def _colour(brightness, prob):
    return (
        'RandomGammaBrightnessColor',
        dict(
            gamma=(0.9, 1.1),
            brightness=brightness,
            color=(0.9, 1.1),
            prob=prob,
        ),
    )


def _resize(mode, **options):
    return (
        'DPTResize',
        dict(scale=(384, 384), mode=mode, interpolation='bicubic', **options),
    )


NARROW, WIDE = (0.9, 1.1), (0.75, 1.25)
FLIP = ('RandomFlip', dict(prob=0.5))
PACK = ('PackDepthInputs', {})
OWN_SIZE = ('ResetOriShape', {})
# rows 45 to 471 and columns 43 to 607 are the picture, 427x565
FRAME = (
    'FixedCrop',
    dict(rows=(45, 472), cols=(43, 608), size=(480, 640)),
)
H5 = [('LoadDepthH5', {})]
MAT = [('LoadDepthMat', {})]
NYU = _load('LoadDepth', depth_rescale_factor=1e-3)
KITTI = _load('LoadDepth', depth_rescale_factor=1 / 256)
CITY = [
    *_load('LoadDisparity'),
    ('Resize', dict(scale=(1216, 352))),
]
# rotation and colours with 0.5 where the toolbox is followed, BTS rotates all
NYU_STEPS = [
    FRAME,
    _rotate(2.5, prob=0.5),
    FLIP,
    _crop(416, 544),
    _colour(WIDE, 0.5),
    PACK,
]
OUTDOOR = [_rotate(2.5, prob=0.5), FLIP, _crop(352, 704)]
FAST = [
    ('CenterCrop', dict(crop_size=(304, 228))),
    ('Resize', dict(scale=(224, 224), interpolation='nearest')),
]
FAST_FIRST = (
    'Resize',
    dict(scale_factor=250 / 480, interpolation='nearest'),
)
RELATIVE = _load('LoadDepth', allow_8bit=True)

# name: training steps, test steps, class, splits, options of the metric
SETS = {
    'nyu_bts_list': (
        [*NYU, *NYU_STEPS],
        [*NYU, PACK],
        'NYUDepth',
        ('train', 'test'),
        dict(protocol='nyu_eigen'),
    ),
    'nyu_mat': (
        [*MAT, *NYU_STEPS],
        [*MAT, PACK],
        'NYUDepthMat',
        ('train', 'test'),
        dict(protocol='nyu_eigen'),
    ),
    'nyu_bts_h5': (
        [
            *H5,
            FRAME,
            # of every image, and the crop before the flip
            _rotate(2.5),
            _crop(416, 544),
            FLIP,
            _colour(WIDE, 0.5),
            PACK,
        ],
        [*H5, PACK],
        'NYUDepthH5',
        ('train', 'official'),
        dict(protocol='nyu_eigen'),
    ),
    'nyu_fastdepth_h5': (
        [
            *H5,
            FAST_FIRST,
            _rotate(5, interpolation='nearest'),
            (
                'RandomScaleDepth',
                dict(scale_range=(1.0, 1.5), interpolation='nearest'),
            ),
            FAST[0],
            FLIP,
            FAST[1],
            (
                'ColorJitter',
                dict(
                    brightness=0.4,
                    contrast=0.4,
                    saturation=0.4,
                    backend='cv2',
                ),
            ),
            PACK,
        ],
        [*H5, FAST_FIRST, *FAST, OWN_SIZE, PACK],
        'NYUDepthH5',
        ('train', 'official'),
        dict(protocol='fastdepth'),
    ),
    'kitti_eigen': (
        [*KITTI, ('KBCrop', {}), *OUTDOOR, _colour(NARROW, 0.5), PACK],
        [*KITTI, ('KBCrop', dict(depth=False)), PACK],
        'KITTIDepth',
        ('train', 'test'),
        dict(protocol='kitti_garg'),
    ),
    'cityscapes_depth': (
        [*CITY, *OUTDOOR, _colour(NARROW, 1.0), PACK],
        [*CITY, OWN_SIZE, PACK],
        'CityscapesDepth',
        ('train', 'val'),
        dict(protocol='cityscapes_garg_200'),
    ),
    'rooms_depth': (
        [
            *NYU,
            ('Resize', dict(scale=(224, 160))),
            _crop(160, 160),
            FLIP,
            ('RandomGammaBrightnessColor', {}),
            PACK,
        ],
        [NYU[0], ('Resize', dict(scale=(224, 160))), NYU[1], PACK],
        'DepthFolder',
        (None, None),
        dict(max_depth=10.0),
    ),
}


@pytest.mark.parametrize('name', SETS)
def test_metric__steps_in_their_order_and_protocol(name):
    cfg = read(name)
    train, test, kind, splits, metric = SETS[name]
    first, second = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert _steps(first.pipeline) == train
    assert _steps(second.pipeline) == test
    assert first.type == second.type == f'mmdense.{kind}'
    assert (first.get('split'), second.get('split')) == splits
    assert (first.get('test_mode', False), second.test_mode) == (False, True)
    assert cfg.val_evaluator == dict(type='mmdense.DepthMetric', **metric)
    assert cfg.test_evaluator == cfg.val_evaluator
    assert cfg.test_dataloader == cfg.val_dataloader
    assert cfg.train_dataloader.sampler.shuffle is True
    assert cfg.val_dataloader.sampler.shuffle is False


# what is not written in a config: the defaults that the recipes rely on
@pytest.mark.parametrize(
    ('kind', 'options', 'expected'),
    [
        (
            'RandomGammaBrightnessColor',
            {},
            dict(gamma=NARROW, brightness=WIDE, color=NARROW, prob=0.5),
        ),
        (
            'RandomRotateDepth',
            dict(degree=2.5),
            dict(
                prob=1.0,
                pal_val=0,
                interpolation='bilinear',
                degree=(-2.5, 2.5),
            ),
        ),
        ('DPTResize', {}, dict(multiple=32, depth=True, to_float32=False)),
    ],
)
def test_defaults__that_recipes_rely_on(kind, options, expected):
    step = TRANSFORMS.build(dict(type=f'mmdense.{kind}', **options))
    assert {key: getattr(step, key) for key in expected} == expected


# metres, crop, what the crop is of, whether the benchmark crop comes first
SCORED = {
    'nyu_bts_list': (1e-3, 10.0, 'nyu_eigen', 'kb', False),
    'nyu_bts_h5': (1e-3, 10.0, 'nyu_eigen', 'kb', False),
    'nyu_mat': (1e-3, 10.0, 'nyu_eigen', 'kb', False),
    'nyu_fastdepth_h5': (1e-3, None, 'none', 'kb', False),
    'kitti_eigen': (1e-3, 80.0, 'garg', 'kb', True),
    'cityscapes_depth': (1e-3, 200.0, 'garg', 'kb', False),
    'rooms_depth': (1e-3, 10.0, 'none', 'kb', False),
    'mix3_relative': (1e-12, None, 'none', 'kb', False),
    'mix10_relative': (1e-12, None, 'none', 'kb', False),
}


@pytest.mark.parametrize('name', SCORED)
def test_protocol__range_and_region(name):
    metric = read(name).val_evaluator
    given = {'max_depth': metric.get('max_depth')}
    setting = resolve(metric.get('protocol'), given)
    keys = ('min_depth', 'max_depth', 'crop', 'garg_on', 'kb_crop')
    assert tuple(setting[key] for key in keys) == SCORED[name]
    relative = name.startswith('mix')
    assert setting['prediction'] == ('inverse' if relative else 'depth')
    assert setting['alignment'] == ('least_squares' if relative else 'none')


RELATIVE_TRAIN = [
    *RELATIVE,
    _resize('lower_bound'),
    _crop(384, 384),
    FLIP,
    PACK,
]
RELATIVE_TEST = [
    *RELATIVE,
    _resize('minimal', depth=False, to_float32=True),
    PACK,
]
INVERSE = ('inverse', 1 / 255, None)
MILLIMETRES = ('depth', 1e-3, 'auto')
UNKNOWN = ('depth', 1e-3, None)
# what files hold, its factor, plausible median (None: unknown scale)
STORED = {
    'diml_indoor': MILLIMETRES,
    'megadepth': UNKNOWN,
    'redweb': INVERSE,
    'wsvd': INVERSE,
    'movies3d': INVERSE,
    'tartanair': MILLIMETRES,
    'hrwsi': INVERSE,
    'apolloscape': ('depth', 1 / 256, 'auto'),
    'blendedmvs': UNKNOWN,
    'irs': INVERSE,
}
VALIDATED = ['hrwsi', 'blendedmvs', 'redweb']


@pytest.mark.parametrize(
    ('name', 'sets'),
    [('mix3_relative', VALIDATED), ('mix10_relative', list(STORED))],
)
def test_relative__sets_steps_and_weights(name, sets):
    cfg = read(name)
    for loader, names, steps, part in (
        (cfg.train_dataloader, sets, RELATIVE_TRAIN, 'train'),
        (cfg.val_dataloader, VALIDATED, RELATIVE_TEST, 'val'),
    ):
        mixture = loader.dataset
        assert mixture.type == 'mmdense.MixedDepth'
        roots = [one.data_root for one in mixture.datasets]
        assert roots == [f'data/{word}' for word in names]
        for word, one in zip(names, mixture.datasets):
            assert one.type == 'mmdense.DepthFolder'
            assert _steps(one.pipeline) == steps
            assert STORED[word] == (
                one.stored,
                one.depth_rescale_factor,
                one.get('plausible_range', 'auto'),
            )
            assert one.data_prefix == dict(
                img_path=f'{part}/images', depth_map_path=f'{part}/depth'
            )
            assert one.get('test_mode', False) is (part == 'val')
    assert cfg.train_dataloader.batch_size == 16
    assert cfg.train_dataloader.dataset.dataset_weights == [1] * len(sets)
    assert cfg.val_evaluator == dict(
        type='mmdense.DepthMetric',
        protocol='affine_ablation',
        datasets=VALIDATED,
    )


# set: its class, how its depth is loaded, its metric
ZERO_SHOT = {
    'diw': ('DIW', None, 'WHDRMetric'),
    'eth3d': ('ETH3DDepth', ('LoadETH3DDepth', {}), 'zero_shot_eth3d'),
    'sintel': ('SintelDepth', ('LoadSintelDepth', {}), 'zero_shot_sintel'),
    'kitti': ('KITTIDepth', KITTI[1], 'zero_shot_kitti'),
    'nyu': ('NYUDepth', NYU[1], 'zero_shot_nyu'),
    'tum': (
        'TUMDepth',
        ('LoadDepth', dict(depth_rescale_factor=1 / 5000)),
        'zero_shot_tum',
    ),
}


@pytest.mark.parametrize('name', ['zero-shot_depth', 'mix10_relative'])
def test_zero_shot__sets_steps_and_protocols(name):
    cfg = read(name)
    mixture = cfg.test_dataloader.dataset
    assert (mixture.type, mixture.missing) == ('mmdense.MixedDepth', 'skip')
    assert [one.dataset_name for one in mixture.datasets] == list(ZERO_SHOT)
    assert len(cfg.test_evaluator) == len(ZERO_SHOT)
    resize = _resize('minimal', multiple=32, depth=False, to_float32=True)
    for one, metric in zip(mixture.datasets, cfg.test_evaluator):
        kind, load, protocol = ZERO_SHOT[one.dataset_name]
        assert one.type == f'mmdense.{kind}'
        assert one.test_mode is True
        steps = _steps(one.pipeline)
        loading = [('LoadImage', {})] + ([load] if load else [])
        assert steps[:-1] == [*loading, resize]
        assert steps[-1][0] == 'PackDepthInputs'
        assert metric.datasets == [one.dataset_name]
        if load is None:
            assert metric.type == f'mmdense.{protocol}'
            assert 'depth_pairs' in steps[-1][1]['meta_keys']
        else:
            assert metric.type == 'mmdense.DepthMetric'
            assert metric.protocol == protocol


@pytest.mark.parametrize('name', ['ade20k_480x480', 'pascal-context_480x480'])
def test_segmentation__crops_flips_and_nothing_else(name):
    steps = dict(_steps(read(name).train_dataloader.dataset.pipeline))
    assert list(steps) == [
        'LoadImageFromFile',
        'LoadAnnotations',
        'RandomResize',
        'RandomCrop',
        'RandomFlip',
        'PackSegInputs',
    ]
    resize = steps['RandomResize']
    assert (resize['scale'], resize['ratio_range']) == (
        (520, 520),
        (0.5, 2.0),
    )
    # 1.0: crops are not chosen by their classes
    assert steps['RandomCrop'] == dict(crop_size=(480, 480), cat_max_ratio=1.0)
    assert steps['RandomFlip'] == dict(prob=0.5)
