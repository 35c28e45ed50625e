"""Bad samples, units and reports of all depth data sets."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmengine.runner import Runner  # noqa: E402

from mmdense.datasets.depth import (  # noqa: E402
    BadSampleError,
    DepthFolder,
)
from mmdense.datasets.depth.units import suspected_factor  # noqa: E402
from mmdense.datasets.samplers import SeededIndex  # noqa: E402
from mmdense.evaluation.metrics import DepthMetric  # noqa: E402
from mmdense.registry import DATASETS  # noqa: E402
from mmdense.testing.distributed import run_distributed  # noqa: E402
from mmdense.utils.errors import UserError  # noqa: E402

PIPELINE = [
    dict(type='mmdense.LoadImage'),
    dict(type='mmdense.LoadDepth'),
    dict(type='mmdense.PackDepthInputs'),
]
NAMES = 'abcdef'


@pytest.fixture
def log():
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def make_folder(root, names=NAMES, value=2000):
    for kind in ('images', 'depth'):
        (root / kind).mkdir(parents=True, exist_ok=True)
    rng = np.random.RandomState(0)
    for name in names:
        image = rng.randint(0, 256, (24, 32, 3)).astype(np.uint8)
        cv2.imwrite(str(root / f'images/{name}.jpg'), image)
        depth = np.full((24, 32), value, np.uint16)
        depth[0, :8] = rng.randint(0, 2, 8) * value
        cv2.imwrite(str(root / f'depth/{name}.png'), depth)
    return root


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / 'rgbd')


def build(folder, **kwargs):
    kwargs.setdefault('pipeline', PIPELINE)
    # serialising collects garbage, which takes most of a second
    kwargs.setdefault('serialize_data', False)
    return DepthFolder(data_root=str(folder), **kwargs)


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def write(value):
    return lambda path: cv2.imwrite(str(path), value)


BROKEN = {
    'missing depth': ('depth/c.png', Path.unlink, 'cannot be opened'),
    'missing image': ('images/c.jpg', Path.unlink, 'cannot be opened'),
    'truncated depth': ('depth/c.png', cut, 'truncated'),
    'truncated image': ('images/c.jpg', cut, 'truncated'),
    'empty depth': ('depth/c.png', lambda p: p.write_bytes(b''), 'empty file'),
    'text': ('depth/c.png', lambda p: p.write_text('x' * 99), 'decode'),
    'text as image': ('images/c.jpg', lambda p: p.write_text('x'), 'no image'),
    '8-bit depth': (
        'depth/c.png',
        write(np.full((24, 32), 9, np.uint8)),
        'uint8; this looks like a picture',
    ),
    'colour depth': (
        'depth/c.png',
        write(np.full((24, 32, 3), 9, np.uint8)),
        'this looks like a picture',
    ),
    'size': (
        'depth/c.png',
        write(np.full((24, 30), 9, np.uint16)),
        r'\(24, 30\) and image \(24, 32\)',
    ),
    'all invalid': (
        'depth/c.png',
        write(np.zeros((24, 32), np.uint16)),
        '0 of 768 pixels',
    ),
}


@pytest.mark.parametrize('case', sorted(BROKEN))
def test_bad_sample__is_named_and_replaced_or_raises(folder, log, case):
    name, damage, message = BROKEN[case]
    path = folder / name
    training = build(folder, plausible_range=None)
    strict = build(folder, strict=True, plausible_range=None)
    test = build(folder, test_mode=True, plausible_range=None)
    damage(path)
    with pytest.raises(BadSampleError, match=message) as caught:
        strict[2]
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, UserError)
    # the metric counts it
    sample = test[2]['data_samples']
    assert not sample.gt_depth_map.data.any()
    assert sample.img_path == str(folder / 'images/c.jpg')
    assert ('unusable' in sample) == (case != 'all invalid')
    log.clear()
    np.random.seed(0)
    for _ in range(3):
        used = training[2]['data_samples'].img_path
        assert Path(used).stem in set(NAMES) - {'c'}
    assert training.bad_files == [str(folder / 'images/c.jpg')]
    assert training.skipped >= 3
    told = [line for line in log if str(path) in line]
    assert len(told) == 1
    assert 'rgbd' in told[0]


def test_bad_sample__stock_loader_is_understood(folder):
    stock = [dict(type='LoadImageFromFile'), *PIPELINE[1:]]
    dataset = build(folder, pipeline=stock, plausible_range=None)
    (folder / 'images/c.jpg').write_bytes(b'')
    np.random.seed(0)
    dataset[2]
    assert dataset.bad_files == [str(folder / 'images/c.jpg')]


def test_bad_sample__errors_of_code_are_not_hidden(folder):
    steps = [*PIPELINE[:2], dict(type='mmseg.RandomCrop', crop_size=(8, 8))]
    dataset = build(folder, pipeline=steps)
    dataset.pipeline.transforms[2].crop_size = 'wrong'
    with pytest.raises(TypeError):
        dataset[0]
    assert dataset.skipped == 0


@pytest.mark.parametrize('seeded', [False, True])
def test_bad_sample__all_of_them_end_with_an_error(folder, seeded):
    dataset = build(folder, plausible_range=None)
    for name in NAMES:
        cut(folder / f'depth/{name}.png')
    index = SeededIndex(0, 5) if seeded else 0
    with pytest.raises(BadSampleError, match=r'20 of 20 samples .*\.png'):
        dataset[index]
    patient = build(
        folder, plausible_range=None, max_bad_share=1, max_refetch=7
    )
    with pytest.raises(BadSampleError, match=r'in 8 attempts.*\.png'):
        patient[index]
    assert patient.skipped == 8


def test_bad_sample__replacement_is_a_function_of_the_seed(folder):
    (folder / 'depth/c.png').write_bytes(b'')

    def used(seed):
        dataset = build(folder, plausible_range=None)
        np.random.seed()
        sample = dataset[SeededIndex(2, seed)]['data_samples']
        return sample.metainfo['img_path']

    drawn = [used(seed) for seed in range(8)]
    assert drawn == [used(seed) for seed in range(8)]
    assert len(set(drawn)) > 2


@pytest.mark.parametrize('workers', [0, 2])
def test_training_loop__goes_on_unless_strict(folder, log, workers):
    def loader(**kwargs):
        dataset = dict(
            type='mmdense.DepthFolder',
            data_root=str(folder),
            pipeline=PIPELINE,
            plausible_range=None,
            **kwargs,
        )
        cfg = dict(
            batch_size=2,
            num_workers=workers,
            persistent_workers=workers > 0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dataset,
        )
        return Runner.build_dataloader(cfg, seed=0)

    relaxed, strict = loader(), loader(strict=True)
    cut(folder / 'depth/c.png')
    for _ in range(2):
        batches = [batch['inputs'] for batch in relaxed]
        assert sum(len(inputs) for inputs in batches) == len(NAMES)
    # counts come from the workers
    assert relaxed.dataset.skipped >= 2
    relaxed.dataset.log_report()
    relaxed.dataset.log_report()
    reports = [line for line in log if '1 of 6 samples could not' in line]
    assert len(reports) == 1
    assert 'c.png: truncated' in reports[0]
    with pytest.raises(BadSampleError, match=r'c\.png: truncated'):
        for _ in strict:
            pass


def _skip_on_rank(rank, world_size, root):
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    MMLogger.get_current_instance().addHandler(handler)
    dataset = build(root, plausible_range=None)
    if rank == 1:
        dataset[2]
    dataset.log_report()
    return [line for line in lines if 'could not be used' in line]


@pytest.mark.dist
def test_report__puts_processes_together(folder):
    cut(folder / 'depth/c.png')
    first, second = run_distributed(_skip_on_rank, 2, str(folder))
    assert '1 of 6 samples could not be used' in first[0]
    # the other process met it
    assert 'c.png: truncated' in first[0]
    assert second == []


def test_float_maps__repairs_are_told_once(tmp_path, log):
    make_folder(tmp_path)
    for name in NAMES:
        depth = np.full((24, 32), 2.0)
        depth[:2] = [[np.nan], [-1.0]]
        depth[2, :5] = np.inf
        np.save(tmp_path / f'depth/{name}.npy', depth)
    dataset = build(
        tmp_path, depth_map_suffix='.npy', depth_rescale_factor=1.0
    )
    for index in range(3):
        depth = dataset[index]['data_samples'].gt_depth_map.data[0]
        assert (depth[:2] == 0).all()
        assert (depth[2, :5] == 0).all()
        assert (depth[3:] == 2).all()
    told = [line for line in log if 'NaN' in line]
    assert len(told) == 1
    assert 'a.npy: 69 pixels' in told[0]
    np.save(tmp_path / 'depth/b.npy', np.full((24, 32), np.nan))
    strict = build(
        tmp_path,
        depth_map_suffix='.npy',
        depth_rescale_factor=1.0,
        strict=True,
    )
    with pytest.raises(BadSampleError, match=r'b\.npy: 0 of 768'):
        strict[1]


@pytest.mark.parametrize(
    'stored,factor,expected',
    [
        (2000, 1e-3, None),
        (2000, 1.0, '1/1000'),
        (2, 1e-3, '1000'),
        (12000, 1.0, '1/5000'),
        (200, 1.0, '1/100'),
        (200, 1e-3, '10'),
    ],
)
def test_units__suspected_factor_is_named(
    tmp_path, log, stored, factor, expected
):
    make_folder(tmp_path, value=stored)
    build(
        tmp_path,
        depth_rescale_factor=factor,
        plausible_range=(0.3, 15.0),
    )
    told = [line for line in log if 'median depth' in line]
    if expected is None:
        assert not told
        return
    assert len(told) == 1
    assert f'by a factor of {expected}: multiply depth_re' in told[0]
    assert 'of the data set by it' in told[0]
    assert f'{stored * factor:.4g} m' in told[0]
    assert '.png' in told[0]


def test_units__one_odd_map_is_no_wrong_unit(tmp_path, log):
    make_folder(tmp_path)
    write(np.full((24, 32), 200, np.uint16))(tmp_path / 'depth/a.png')
    build(tmp_path, plausible_range=(0.3, 15.0))
    assert not [line for line in log if 'median depth' in line]
    build(tmp_path, plausible_range=None)
    build(tmp_path, pipeline=PIPELINE[:1])


def test_units__factors_of_the_usual_stores():
    # KITTI read as metres, as centimetres; NYU in metres read as millimetres
    assert suspected_factor(15 * 256.0, (1, 90)) == '1/256'
    assert suspected_factor(0.15, (1, 90)) == '100'
    assert suspected_factor(2.5e-3, (0.3, 15)) == '1000'
    assert suspected_factor(1e9, (0.3, 15)) is None
    # centimetres read as millimetres, millimetres as TUM RGB-D
    assert suspected_factor(0.25, (0.6, 15)) == '10'
    assert suspected_factor(0.363, (0.5, 10)) == '10'
    assert suspected_factor(0.4, (1.8, 3)) == '5'


def test_data_info__names_set_and_mode(folder):
    dataset = build(folder)
    info = dataset.get_data_info(1)
    assert info['dataset_name'] == 'rgbd'
    assert info['seg_fields'] == []
    assert (
        build(folder, dataset_name='x')[0]['data_samples'].metainfo[
            'dataset_name'
        ]
        == 'x'
    )
    part = dataset.get_subset([1, 3])
    assert len(part) == 2
    (folder / 'depth/d.png').write_bytes(b'')
    np.random.seed(1)
    part[1]
    assert part.bad_files == [str(folder / 'images/d.jpg')]
    assert dataset.bad_files == []


def test_units__the_key_that_counts_is_named(tmp_path, log):
    make_folder(tmp_path, value=200)
    build(tmp_path, plausible_range=(0.5, 10))
    assert 'depth_rescale_factor of LoadDepth in the pipeline' in log[-1]


def test_report__says_why_and_keeps_the_random_state(folder, log):
    dataset = build(folder, plausible_range=None)
    cut(folder / 'depth/c.png')
    dataset._tally.mark_bad(2)
    dataset._tally.mark_bad(4)
    np.random.seed(3)
    state = np.random.get_state()[1].copy()
    dataset.log_report()
    assert 'c.png: truncated' in log[-1]
    assert 'e.jpg: can be used now' in log[-1]
    assert (np.random.get_state()[1] == state).all()


def test_validation__bad_samples_are_counted_and_named(folder, log):
    good = dict(type='mmdense.DepthFolder', data_root=str(folder))
    whole = DATASETS.build(
        dict(good, pipeline=PIPELINE, test_mode=True, serialize_data=False)
    )
    for name in 'cdf':
        cut(folder / f'depth/{name}.png')
    results = {}
    for indices in (range(6), (0, 1, 4)):
        metric = DepthMetric(max_depth=10.0)
        metric.dataset_meta = {}
        for index in indices:
            sample = whole[index]['data_samples'].to_dict()
            truth = sample['gt_depth_map']['data']
            sample['gt_depth_map'] = dict(data=truth)
            sample['pred_depth_map'] = dict(data=torch.full_like(truth, 1.0))
            metric.process(None, [sample])
        results[len(indices)] = metric.evaluate(len(indices))
    assert results[6].pop('depth/skipped') == 3
    assert results[3].pop('depth/skipped') == 0
    assert results[6] == results[3]
    assert any('3 of 6 images' in line and 'f.jpg' in line for line in log)
    whole.log_report()
    assert '3 of 9 reads were not scored' in log[-1]
    for name in 'abe':
        cut(folder / f'depth/{name}.png')
    with pytest.raises(BadSampleError, match='d.png'):
        whole[3]


def test_validation__other_truths_are_not_scored(folder):
    dataset = build(folder, test_mode=True, pipeline=PIPELINE[:2])
    cut(folder / 'depth/c.png')
    with pytest.raises(BadSampleError, match='c.png'):
        dataset[2]


def test_load__bytes_after_the_picture(folder):
    path = folder / 'images/c.jpg'
    content = path.read_bytes()
    path.write_bytes(content + b'x' * 5000)
    depth = folder / 'depth/c.png'
    depth.write_bytes(depth.read_bytes() + b'x' * 5000)
    dataset = build(folder, strict=True)
    assert dataset[2]['inputs'].shape == (3, 24, 32)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadSampleError, match='c.jpg: truncated'):
        dataset[2]


def test_load__messages_of_decoders_are_one_line(folder, monkeypatch):
    def fail(*args, **kwargs):
        raise cv2.error('OpenCV: (-215) empty\n> Overload resolution\n')

    dataset = build(folder, strict=True)
    monkeypatch.setattr('mmcv.imfrombytes', fail)
    with pytest.raises(BadSampleError) as caught:
        dataset[2]
    assert str(caught.value).endswith(
        'c.jpg: broken image (OpenCV: (-215) empty)'
    )
