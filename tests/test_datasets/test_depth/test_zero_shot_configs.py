"""The base configs of relative depth, on tiny files of their layout."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator

import mmdense  # noqa: F401
from mmdense.registry import DATASETS
from mmdense.testing.launch import ROOT

BASE = ROOT / 'configs' / '_base_' / 'datasets'
# height and width
SIZE = (60, 80)


def read(name):
    config = Config.fromfile(str(BASE / name))
    config.default_scope = 'mmdense'
    return config


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = '.png' if array.dtype == np.uint16 else path.suffix.lower()
    suffix = '.jpg' if suffix == '.thumb' else suffix
    path.write_bytes(cv2.imencode(suffix, array)[1].tobytes())


def image(rng):
    return rng.randint(0, 255, (*SIZE, 3)).astype(np.uint8)


def truth(rng):
    return rng.uniform(1, 9, SIZE).astype(np.float32)


def zero_shot_files(root):
    """DIW, ETH3D, Sintel and TUM; KITTI and NYU are not there."""
    rng = np.random.RandomState(0)
    diw = root / 'data' / 'diw'
    for name in 'ab':
        write(diw / 'DIW_test' / f'{name}.thumb', image(rng))
    lines = ['./DIW_test/a.thumb', '5,5,55,70,>,80,60']
    lines += ['./DIW_test/b.thumb', '5,5,55,70,<,80,60']
    (diw / 'DIW_test.csv').write_text('\n'.join(lines) + '\n')
    scene = root / 'data' / 'eth3d' / 'office'
    write(scene / 'images' / 'dslr_images' / 'D.JPG', image(rng))
    place = scene / 'ground_truth_depth' / 'dslr_images'
    place.mkdir(parents=True)
    (place / 'D.JPG').write_bytes(truth(rng).tobytes())
    training = root / 'data' / 'sintel' / 'training'
    for i in range(2):
        write(training / 'final' / 'alley' / f'{i}.png', image(rng))
        path = training / 'depth' / 'alley' / f'{i}.dpt'
        path.parent.mkdir(parents=True, exist_ok=True)
        head = np.float32(202021.25).tobytes()
        head += np.array(SIZE[::-1], '<i4').tobytes()
        path.write_bytes(head + truth(rng).tobytes())
    tum = root / 'data' / 'tum' / 'walking'
    write(tum / 'rgb' / '1.png', image(rng))
    depth = (truth(rng) * 5000).astype(np.uint16)
    write(tum / 'depth' / '1.png', depth)
    (tum / 'rgb.txt').write_text('1.0 rgb/1.png\n')
    (tum / 'depth.txt').write_text('1.0 depth/1.png\n')


def test_zero_shot_depth__tests_what_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zero_shot_files(tmp_path)
    config = read('zero-shot_depth.py')
    assert set(config) == {
        'test_dataloader',
        'test_evaluator',
        'default_scope',
    }
    dataset = DATASETS.build(config.test_dataloader.dataset)
    assert len(dataset) == 6
    evaluator = Evaluator(list(config.test_evaluator))
    for index in range(len(dataset)):
        packed = dataset[index]
        # 384/80 is nearer to 1 than 384/60
        assert packed['inputs'].shape == (3, 288, 384)
        sample = packed['data_samples']
        assert sample.ori_shape == SIZE
        data = sample.to_dict()
        if sample.dataset_name == 'diw':
            pred = torch.linspace(1, 0, 60 * 80).reshape(1, *SIZE)
        else:
            depth = sample.gt_depth_map.data
            assert depth.shape == (1, *SIZE)
            # exact up to scale and shift of inverse depth
            pred = 300 / depth - 7
        data['pred_depth_map'] = dict(data=pred)
        evaluator.process([data])
    got = evaluator.evaluate(len(dataset))
    # A is nearer in both images, the list says so of the second
    assert got['whdr/whdr'] == 50
    for name, count in (('eth3d', 1), ('sintel', 2), ('tum', 1)):
        assert got[f'zero_shot_{name}/abs_rel'] < 1e-4
        assert got[f'zero_shot_{name}/d1_error'] == 0
        assert got[f'zero_shot_{name}/images'] == count
    assert not any('kitti' in name or 'nyu' in name for name in got)


def relative_files(root, name, folder, count):
    rng = np.random.RandomState(1)
    for i in range(count):
        place = root / 'data' / name / folder
        write(place / 'images' / 'x' / f'{i}.jpg', image(rng))
        depth = rng.randint(1, 60000, SIZE).astype(np.uint16)
        depth[:5] = 0
        write(place / 'depth' / 'x' / f'{i}.png', depth)


@pytest.mark.parametrize('name,sets', [('mix3', 3), ('mix10', 10)])
def test_relative_mixtures(name, sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read(f'{name}_relative.py')
    train = config.train_dataloader.dataset
    assert len(train.datasets) == len(train.dataset_weights) == sets
    for index, item in enumerate(train.datasets):
        folder = item.data_root.split('/')[1]
        relative_files(tmp_path, folder, 'train', 1 + index % 3)
    for item in config.val_dataloader.dataset.datasets:
        relative_files(tmp_path, item.data_root.split('/')[1], 'val', 2)
    dataset = DATASETS.build(train)
    # every set as often as the longest
    assert len(dataset) == 3 * sets
    names = set()
    for index in range(len(dataset)):
        packed = dataset[index]
        assert packed['inputs'].shape == (3, 384, 384)
        depth = packed['data_samples'].gt_depth_map.data
        assert depth.shape == (1, 384, 384)
        assert depth.min() >= 0 and depth.max() > 0
        names.add(packed['data_samples'].dataset_name)
    assert len(names) == sets
    evaluator = Evaluator(config.val_evaluator)
    val = DATASETS.build(config.val_dataloader.dataset)
    for index in range(len(val)):
        sample = val[index]['data_samples']
        depth = sample.gt_depth_map.data
        inverse = torch.where(depth > 0, 1 / depth, torch.zeros(()))
        data = sample.to_dict()
        data['pred_depth_map'] = dict(data=5 * inverse + 3)
        evaluator.process([data])
    got = evaluator.evaluate(len(val))
    key = 'abs_rel_dev_after_affine_alignment'
    for part in ('mean', 'hrwsi', 'blendedmvs', 'redweb'):
        assert got[f'affine_ablation/{part}/{key}'] < 1e-4
    assert got['affine_ablation/mean/images'] == 6
    if name == 'mix10':
        assert len(config.test_evaluator) == 6
