"""Inverse depth, masks and names of folder data sets."""

import cv2
import numpy as np
import pytest

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmdense.datasets.depth import (  # noqa: E402
    BadSampleError,
    DepthFolder,
    LoadDepth,
)
from mmdense.utils.errors import UserValueError  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    for kind in ('images', 'depth', 'masks'):
        (tmp_path / kind).mkdir()
    cv2.imwrite(str(tmp_path / 'images/a.jpg'), np.zeros((2, 3, 3), np.uint8))
    raw = np.array([[0, 1000, 2000], [500, 65535, 1]], np.uint16)
    cv2.imwrite(str(tmp_path / 'depth/a.png'), raw)
    mask = np.array([[255, 0, 255], [255, 255, 0]], np.uint8)
    cv2.imwrite(str(tmp_path / 'masks/a.png'), mask)
    return tmp_path


def depth_of(folder, steps=None, **kwargs):
    steps = steps or [dict(type='mmdense.LoadDepth')]
    dataset = DepthFolder(data_root=str(folder), pipeline=steps, **kwargs)
    return dataset[0]['gt_depth_map']


def test_depth_folder__inverse_depth(folder):
    got = depth_of(folder, stored='inverse', depth_rescale_factor=1e-3)
    expected = [[0, 1, 0.5], [2, 1 / 65.535, 1000]]
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    own = [dict(type='mmdense.LoadDepth', stored='depth')]
    with pytest.raises(UserValueError, match='contradict'):
        depth_of(folder, own, stored='inverse')


def test_depth_folder__masks(folder):
    prefix = dict(img_path='images', depth_map_path='depth', mask_path='masks')
    got = depth_of(folder, data_prefix=prefix, depth_rescale_factor=1e-3)
    np.testing.assert_allclose(got, [[0, 0, 2], [0.5, 65.535, 0]], rtol=1e-6)
    cv2.imwrite(str(folder / 'masks/a.png'), np.zeros((3, 3), np.uint8))
    with pytest.raises(BadSampleError, match=r'masks/a.png: mask \(3, 3\)'):
        depth_of(folder, data_prefix=prefix, strict=True)


def test_depth_folder__eight_bits_on_request(folder):
    raw = np.array([[0, 1, 2], [4, 8, 255]], np.uint8)
    cv2.imwrite(str(folder / 'depth/a.png'), raw)
    with pytest.raises(BadSampleError, match='allow_8bit=True'):
        depth_of(folder, strict=True)
    steps = [dict(type='mmdense.LoadDepth', allow_8bit=True)]
    got = depth_of(folder, steps, stored='inverse', depth_rescale_factor=1.0)
    expected = [[0, 1, 0.5], [0.25, 0.125, 1 / 255]]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_load_depth__fewest_valid_pixels(folder):
    info = dict(depth_map_path=str(folder / 'depth/a.png'))
    assert LoadDepth(min_valid=5)(dict(info))['gt_depth_map'].any()
    with pytest.raises(BadSampleError, match='5 of 6 .* min_valid=6'):
        LoadDepth(min_valid=6)(dict(info))
    assert LoadDepth(min_valid=6)({**info, 'test_mode': True})


@pytest.mark.parametrize(
    'kwargs,match',
    [
        (dict(stored='disparity'), 'inverse'),
        (dict(depth_rescale_factor=0), 'positive'),
    ],
)
def test_load_depth__bad_arguments(kwargs, match):
    with pytest.raises(UserValueError, match=match):
        LoadDepth(**kwargs)


def test_depth_folder__inverse_depth_with_holes_is_counted(tmp_path):
    (tmp_path / 'depth').mkdir()
    values = np.array([[np.nan, -1.0, np.inf, 0.0, 4.0]])
    np.save(tmp_path / 'depth/a.npy', values)
    info = dict(depth_map_path=str(tmp_path / 'depth/a.npy'))
    got = LoadDepth(1.0, stored='inverse')(info)
    assert got['gt_depth_map'].tolist() == [[0, 0, 0, 0, 0.25]]
    assert got['depth_repaired'] == 3
