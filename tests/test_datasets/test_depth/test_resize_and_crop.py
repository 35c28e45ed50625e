"""Crops and sizes of KITTI and DPT against plain loops."""

import cv2
import numpy as np
import pytest

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmdense.datasets.depth import (  # noqa: E402
    BadSampleError,
    DPTResize,
    KBCrop,
    PackDepthInputs,
)
from mmdense.datasets.depth.transforms import dpt_size  # noqa: E402
from mmdense.evaluation.functional.depth import kb_region  # noqa: E402
from mmdense.registry import TRANSFORMS  # noqa: E402


def results(height, width, seed=0):
    rng = np.random.RandomState(seed)
    depth = rng.rand(height, width).astype(np.float32) * 10 + 1
    depth[rng.rand(height, width) < 0.3] = 0
    return dict(
        img=rng.randint(0, 256, (height, width, 3)).astype(np.uint8),
        img_path='a.png',
        img_shape=(height, width),
        ori_shape=(height, width),
        gt_depth_map=depth,
        seg_fields=['gt_depth_map'],
    )


@pytest.mark.parametrize('size', [(375, 1242), (370, 1226), (376, 1241)])
@pytest.mark.parametrize('depth', [True, False])
def test_kb_crop__equals_a_loop(size, depth):
    before = results(*size)
    image, truth = before['img'].copy(), before['gt_depth_map'].copy()
    got = KBCrop(depth=depth)(before)
    top, left = size[0] - 352, (size[1] - 1216) // 2
    assert got['img'].shape == (352, 1216, 3)
    for row in range(0, 352, 13):
        for col in range(0, 1216, 17):
            pixel = got['img'][row, col]
            assert (pixel == image[row + top, col + left]).all()
            if depth:
                value = truth[row + top, col + left]
                assert got['gt_depth_map'][row, col] == value
    if not depth:
        np.testing.assert_array_equal(got['gt_depth_map'], truth)
    assert got['ori_shape'] == got['img_shape'] == (352, 1216)
    # what the metric takes for the window
    assert got['kb_crop'] == tuple(kb_region(size))


def test_kb_crop__small_or_unequal_images_are_named():
    with pytest.raises(BadSampleError, match=r'a\.png: image of \(351'):
        KBCrop()(results(351, 1216))
    with pytest.raises(BadSampleError, match=r'\(400, 1215\)'):
        KBCrop()(results(400, 1215))
    uneven = results(375, 1242)
    uneven['gt_depth_map'] = uneven['gt_depth_map'][1:]
    with pytest.raises(BadSampleError, match='gt_depth_map of'):
        KBCrop()(uneven)


@pytest.mark.parametrize(
    'image,scale,expected',
    [
        ((640, 480), (384, 384), (512, 384)),
        ((1242, 375), (384, 384), (1280, 384)),
        ((375, 1242), (384, 384), (384, 1280)),
        ((1216, 352), (1216, 352), (1216, 352)),
        ((640, 480), (640, 480), (640, 480)),
        ((384, 384), (384, 384), (384, 384)),
    ],
)
def test_dpt_size__known_sizes(image, scale, expected):
    assert dpt_size(*image, scale) == expected


def by_search(width, height, scale, mode, multiple):
    """Nearest pair of multiples, found by trying all."""
    factors = (scale[0] / width, scale[1] / height)
    if mode == 'minimal':
        factor = min(factors[::-1], key=lambda s: abs(1 - s))
    else:
        factor = (max if mode == 'lower_bound' else min)(factors)
    found = []
    for side, bound in ((width, scale[0]), (height, scale[1])):
        sides = range(multiple, 6000, multiple)
        if mode == 'lower_bound':
            sides = [s for s in sides if s >= bound]
        if mode == 'upper_bound':
            sides = [s for s in sides if s <= bound]
        found.append(min(sides, key=lambda s: abs(s - side * factor)))
    return tuple(found)


@pytest.mark.parametrize('mode', DPTResize.MODES)
def test_dpt_size__equals_a_search(mode):
    rng = np.random.RandomState(0)
    for _ in range(300):
        width, height = rng.randint(200, 2000, 2).tolist()
        scale = tuple((rng.randint(6, 20, 2) * 32).tolist())
        got = dpt_size(width, height, scale, mode, 32)
        assert got == by_search(width, height, scale, mode, 32)


def test_dpt_size__sides_of_relative_training():
    # longer side 384 with 'upper_bound', shorter side with 'lower_bound'
    for width, height in ((640, 480), (481, 1000), (384, 384)):
        assert max(dpt_size(width, height, (384, 384), 'upper_bound', 1)) == (
            384
        )
        assert min(dpt_size(width, height, (384, 384), 'lower_bound', 1)) == (
            384
        )


@pytest.mark.parametrize('size', [(48, 64), (37, 124), (130, 90)])
def test_dpt_resize__nearest_depth_equals_a_loop(size):
    before = results(*size)
    truth, image = before['gt_depth_map'].copy(), before['img'].copy()
    got = DPTResize(scale=(64, 64), multiple=32)(before)
    width, height = dpt_size(size[1], size[0], (64, 64))
    assert got['img'].shape == (height, width, 3)
    assert got['img_shape'] == (height, width)
    assert got['ori_shape'] == size
    assert got['scale_factor'] == (width / size[1], height / size[0])
    for row in range(height):
        for col in range(width):
            y = min(int(row * (size[0] / height)), size[0] - 1)
            x = min(int(col * (size[1] / width)), size[1] - 1)
            # metric, and 0 stays 0: nothing is interpolated
            assert got['gt_depth_map'][row, col] == truth[y, x]
    expected = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_CUBIC
    )
    np.testing.assert_array_equal(got['img'], expected)


@pytest.mark.parametrize('size', [(48, 64), (37, 124), (130, 90)])
def test_dpt_resize__float_is_that_of_images_from_0_to_1(size):
    before = results(*size)
    image = before['img'].copy()
    # edges of full contrast: bicubic goes beyond
    image[: size[0] // 2], image[:, : size[1] // 3] = 0, 255
    before['img'] = image.copy()
    step = dict(type='mmdense.DPTResize', scale=(64, 64), to_float32=True)
    got = TRANSFORMS.build(step)(dict(before))
    expected = cv2.resize(
        image / 255.0, got['img'].shape[1::-1], interpolation=cv2.INTER_CUBIC
    )
    assert got['img'].dtype == np.float32
    np.testing.assert_allclose(got['img'] / 255, expected, atol=1e-5)
    np.testing.assert_array_equal(before['img'], image)
    assert got['img'].max() > 255 and got['img'].min() < 0
    assert got['gt_depth_map'].shape == got['img_shape']
    rounded = DPTResize(scale=(64, 64))(dict(before))['img']
    assert rounded.dtype == np.uint8
    clipped = np.clip(got['img'], 0, 255)
    assert np.abs(clipped - rounded).max() <= 1
    assert np.abs(clipped - rounded).max() > 0.2


def test_dpt_resize__truth_of_tests_stays():
    before = results(48, 70)
    truth = before['gt_depth_map'].copy()
    got = DPTResize(scale=(64, 64), depth=False)(before)
    np.testing.assert_array_equal(got['gt_depth_map'], truth)
    assert got['img'].shape != (48, 70, 3)


@pytest.mark.parametrize(
    'kwargs,match',
    [
        (dict(mode='maximal'), 'minimal'),
        (dict(scale=(0, 3)), 'positive'),
        (dict(multiple=0), 'positive'),
        (dict(mode='upper_bound', scale=(16, 64)), 'no multiple of 32'),
    ],
)
def test_dpt_resize__bad_arguments(kwargs, match):
    with pytest.raises(ValueError, match=match):
        DPTResize(**kwargs)


@pytest.mark.parametrize('mode', ['upper_bound', 'lower_bound'])
def test_relative_training__crop_of_the_resized_image(mode):
    np.random.seed(0)
    step = dict(type='mmdense.DPTResize', mode=mode, multiple=1)
    got = results(480, 640)
    for config in (step, dict(type='mmseg.RandomCrop', crop_size=(384, 384))):
        got = TRANSFORMS.build(config)(got)
    expected = (288, 384) if mode == 'upper_bound' else (384, 384)
    assert got['img'].shape[:2] == got['gt_depth_map'].shape == expected


def test_flip__mirrors_image_and_depth():
    before = results(6, 9)
    image, truth = before['img'].copy(), before['gt_depth_map'].copy()
    got = TRANSFORMS.build(dict(type='mmseg.RandomFlip', prob=1.0))(before)
    for row in range(6):
        for col in range(9):
            assert (got['img'][row, col] == image[row, 8 - col]).all()
            assert got['gt_depth_map'][row, col] == truth[row, 8 - col]


def test_rotation__equals_a_loop():
    """Nearest neighbour about the centre; zero comes in from outside."""
    before = results(21, 31)
    truth = before['gt_depth_map'].copy()
    angle = 7.3
    step = dict(type='mmdense.RandomRotateDepth', degree=(angle, angle))
    got = TRANSFORMS.build(step)(before)['gt_depth_map']
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    agree = outside = 0
    for row in range(21):
        for col in range(31):
            # mmcv turns clockwise
            dx, dy = col - 15, row - 10
            x, y = cos * dx + sin * dy + 15, -sin * dx + cos * dy + 10
            x, y = round(x), round(y)
            inside = 0 <= x < 31 and 0 <= y < 21
            wanted = truth[y, x] if inside else 0
            agree += got[row, col] == wanted
            outside += not inside
    assert outside > 10
    # OpenCV rounds positions to 1/32 pixel
    assert agree >= 0.97 * 21 * 31


def test_pack__keeps_what_depth_needs():
    got = results(4, 5)
    got.update(
        dataset_name='nyu',
        focal=518.8,
        scene_label=3,
        kb_crop=(1, 2, 3, 4),
        flip=True,
        sample_idx=7,
    )
    packed = PackDepthInputs()(got)
    sample = packed['data_samples']
    assert tuple(packed['inputs'].shape) == (3, 4, 5)
    assert tuple(sample.gt_depth_map.data.shape) == (1, 4, 5)
    for key in ('dataset_name', 'focal', 'scene_label', 'kb_crop', 'flip'):
        assert sample.metainfo[key] == got[key]
    assert sample.sample_idx == 7
    few = PackDepthInputs(meta_keys=('img_path',))(results(4, 5))
    assert list(few['data_samples'].metainfo) == ['img_path']
