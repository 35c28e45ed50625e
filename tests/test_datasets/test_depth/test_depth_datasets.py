import logging
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.logging import MMLogger

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmdense.datasets.depth import (  # noqa: E402
    DepthFileError,
    DepthFolder,
    NYUDepthH5,
)
from mmdense.registry import DATASETS  # noqa: E402
from mmdense.utils.errors import UserValueError  # noqa: E402

ROOT = Path(__file__).parents[3]
H5_PIPELINE = [
    dict(type='mmdense.LoadDepthH5'),
    dict(type='mmseg.PackSegInputs'),
]


@pytest.fixture
def nyu(tmp_path):
    h5py = pytest.importorskip('h5py')
    root = tmp_path / 'nyudepthv2'
    names = [
        'train/kitchen_0001/00001.h5',
        'train/kitchen_0001/00006.h5',
        'train/bedroom_0002/00201.h5',
        'train/bedroom_0002/00206.h5',
        'train/bedroom_0002/00211.h5',
        'val/official/00001.h5',
        'val/official/00002.h5',
    ]
    for value, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(root / name, 'w') as file:
            file['rgb'] = np.full((3, 4, 6), value, np.uint8)
            file['depth'] = np.full((4, 6), value + 1, np.float32)
    (root / 'train/kitchen_0001/readme.txt').write_text('x')
    return root


@pytest.fixture
def log():
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def names_of(dataset):
    return [
        '/'.join(Path(dataset.get_data_info(i)['img_path']).parts[-2:])
        for i in range(len(dataset))
    ]


def test_nyu_depth_h5__splits(nyu):
    def split(name):
        return names_of(NYUDepthH5(name, data_root=str(nyu)))

    everything = split('train')
    assert everything == [
        'bedroom_0002/00201.h5',
        'bedroom_0002/00206.h5',
        'bedroom_0002/00211.h5',
        'kitchen_0001/00001.h5',
        'kitchen_0001/00006.h5',
    ]
    held = ['bedroom_0002/00201.h5', 'kitchen_0001/00001.h5']
    assert split('holdout') == held
    assert sorted(split('train_fastdepth') + held) == everything
    assert split('official') == ['official/00001.h5', 'official/00002.h5']


def test_nyu_depth_h5__loads_through_the_registry(nyu):
    dataset = DATASETS.build(
        dict(
            type='mmdense.NYUDepthH5',
            split='official',
            data_root=str(nyu),
            test_mode=True,
            pipeline=H5_PIPELINE,
        )
    )
    item = dataset[1]
    assert item['inputs'].unique().tolist() == [6]
    assert item['data_samples'].gt_depth_map.data.unique().tolist() == [7.0]
    assert dataset.get_data_info(0)['scene'] == 'official'


def test_nyu_depth_h5__count_that_differs_is_told(nyu, log):
    NYUDepthH5('official', data_root=str(nyu))
    out = ''.join(log)
    assert '2 files' in out
    assert '654 (-652)' in out


def test_nyu_depth_h5__broken_file_raises_or_is_skipped(nyu, log):
    broken = nyu / 'train/kitchen_0001/00006.h5'
    broken.write_bytes(b'not hdf5')
    raising = NYUDepthH5(
        'train', data_root=str(nyu), pipeline=H5_PIPELINE, strict=True
    )
    with pytest.raises(DepthFileError, match='00006.h5'):
        raising[4]
    skipping = NYUDepthH5('train', data_root=str(nyu), pipeline=H5_PIPELINE)
    np.random.seed(0)
    item = skipping[4]
    assert 'inputs' in item
    assert skipping.skipped >= 1
    assert '00006.h5' in ''.join(log)
    assert skipping.bad_files == [str(broken)]


def test_nyu_depth_h5__truncated_file_is_named(nyu):
    cut = nyu / 'train/kitchen_0001/00006.h5'
    content = cut.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    dataset = NYUDepthH5('train', data_root=str(nyu), pipeline=H5_PIPELINE)
    with pytest.raises(DepthFileError, match='00006.h5: missing or broken'):
        dataset.prepare_data(4)


def test_nyu_depth_h5__missing_file_is_named(nyu):
    dataset = NYUDepthH5(
        'train', data_root=str(nyu), pipeline=H5_PIPELINE, strict=True
    )
    (nyu / 'train/kitchen_0001/00006.h5').unlink()
    with pytest.raises(DepthFileError, match='00006.h5: missing or broken'):
        dataset[4]


def test_nyu_depth_h5__foreign_layout_is_named(nyu):
    h5py = pytest.importorskip('h5py')
    path = nyu / 'val/official/00001.h5'
    path.unlink()
    with h5py.File(path, 'w') as file:
        file['image'] = np.zeros((4, 6))
    dataset = NYUDepthH5(
        'official', data_root=str(nyu), pipeline=H5_PIPELINE, strict=True
    )
    with pytest.raises(DepthFileError, match=r"no \['depth', 'rgb'\]"):
        dataset[0]
    with h5py.File(path, 'a') as file:
        file['rgb'], file['depth'] = np.zeros((4, 6, 3)), np.ones((4, 6))
    with pytest.raises(DepthFileError, match=r'\(3, H, W\) uint8'):
        dataset[0]


@pytest.mark.parametrize(
    'kwargs,error,match',
    [
        (dict(split='test'), ValueError, 'official'),
        (dict(max_bad_share=2), ValueError, 'max_bad_share'),
        (dict(plausible_range=(3, 1)), ValueError, 'plausible_range'),
        (dict(data_root='/nonexistent'), FileNotFoundError, 'train/<scene>'),
    ],
)
def test_nyu_depth_h5__bad_arguments(kwargs, error, match):
    pytest.importorskip('h5py')
    with pytest.raises(error, match=match):
        NYUDepthH5(**kwargs)


def test_nyu_depth_h5__without_h5py_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(ImportError, match=r'mmdense\[depth\]'):
        NYUDepthH5()


@pytest.fixture
def folder(tmp_path):
    for name in ('b', 'a', 'deep/c'):
        for kind in ('images', 'depth'):
            (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
        image = np.full((4, 6, 3), 9, np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / f'{name}.jpg'), image)
        depth = np.full((4, 6), 512, np.uint16)
        cv2.imwrite(str(tmp_path / 'depth' / f'{name}.png'), depth)
    return tmp_path


def stems(dataset):
    return [
        Path(dataset.get_data_info(i)['depth_map_path']).stem
        for i in range(len(dataset))
    ]


def test_depth_folder__pairs_by_name(folder):
    dataset = DepthFolder(data_root=str(folder), test_mode=True)
    assert stems(dataset) == ['a', 'b', 'c']
    (folder / 'list.txt').write_text('b\n\ndeep/c\n')
    listed = DepthFolder(data_root=str(folder), ann_file='list.txt')
    assert stems(listed) == ['b', 'c']


@pytest.mark.parametrize(
    'step,expected',
    [
        (dict(type='mmdense.LoadDepth'), 2.0),
        (dict(type='mmdense.LoadDepth', depth_rescale_factor=1 / 256), 2.0),
    ],
)
def test_depth_folder__factor_reaches_the_loader(folder, step, expected):
    dataset = DepthFolder(
        data_root=str(folder),
        depth_rescale_factor=1 / 256,
        pipeline=[dict(type='LoadImageFromFile'), step],
    )
    depth = dataset[0]['gt_depth_map']
    assert np.unique(depth).tolist() == pytest.approx([expected])


def test_depth_folder__rooms():
    for part, count in (('train', 160), ('val', 40)):
        dataset = DepthFolder(
            data_root=str(ROOT / 'demo/data/rooms'),
            data_prefix=dict(img_path=part, depth_map_path=f'depth/{part}'),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='mmdense.LoadDepth'),
                dict(type='mmseg.PackSegInputs'),
            ],
            test_mode=True,
        )
        assert len(dataset) == count
        item = dataset[0]
        assert tuple(item['inputs'].shape) == (3, 240, 320)
        depth = item['data_samples'].gt_depth_map.data
        assert tuple(depth.shape) == (1, 240, 320)
        assert 0.38 < depth.min() < depth.max() < 10


def test_depth_folder__problems_are_named(folder, log):
    with pytest.raises(FileNotFoundError, match='no such folder'):
        DepthFolder(data_root=str(folder / 'nowhere'))
    with pytest.raises(FileNotFoundError, match=r'no \*\.jpeg'):
        DepthFolder(data_root=str(folder), img_suffix='.jpeg')
    with pytest.raises(FileNotFoundError, match='ann_file'):
        DepthFolder(data_root=str(folder), ann_file='list.txt')
    (folder / 'depth' / 'b.png').unlink()
    with pytest.raises(DepthFileError, match='1 of 3 .*b.png'):
        DepthFolder(data_root=str(folder), strict=True)
    assert stems(DepthFolder(data_root=str(folder))) == ['a', 'c']
    assert '1 of 3 images' in ''.join(log)
    # metrics count it
    assert len(DepthFolder(data_root=str(folder), test_mode=True)) == 3
    (folder / 'list.txt').write_text('a\nunknown\ndeep/c\n')
    listed = DepthFolder(data_root=str(folder), ann_file='list.txt')
    assert stems(listed) == ['a', 'c']
    assert 'unknown.jpg' in log[-1]
    for name in ('a', 'deep/c'):
        (folder / 'depth' / f'{name}.png').unlink()
    with pytest.raises(DepthFileError, match='3 of 3 .*a.png, .*b.png'):
        DepthFolder(data_root=str(folder))
    (folder / 'depth').rename(folder / 'elsewhere')
    with pytest.raises(FileNotFoundError, match='depth: no such folder'):
        DepthFolder(data_root=str(folder))


def test_depth_folder__contradicting_factors_are_refused(folder):
    own = dict(type='mmdense.LoadDepth', depth_rescale_factor=0.01)
    with pytest.raises(UserValueError, match='0.5 of the data set.*0.01 of'):
        DepthFolder(
            data_root=str(folder), depth_rescale_factor=0.5, pipeline=[own]
        )
