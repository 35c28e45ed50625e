import cv2
import numpy as np
import pytest

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmengine.config import Config  # noqa: E402

from mmdense.datasets.depth import (  # noqa: E402
    CenterCrop,
    DepthFileError,
    FixedCrop,
    LoadDepth,
    LoadDepthH5,
    RandomGammaBrightnessColor,
    RandomRotateDepth,
    RandomScaleDepth,
    ResetOriShape,
)
from mmdense.registry import TRANSFORMS  # noqa: E402

ROOT = __file__.rsplit('/tests/', 1)[0]


def make_results(h=480, w=640):
    """Depth of every pixel is written into its colour: 0.04 m a level."""
    rows, cols = np.mgrid[:h, :w]
    level = 20 + (rows // 8 * 31 + cols // 8 * 17) % 200
    image = np.repeat(level[..., None].astype(np.uint8), 3, axis=2)
    return dict(
        img=image,
        img_path='a.jpg',
        img_shape=(h, w),
        ori_shape=(h, w),
        gt_depth_map=(level * 0.04).astype(np.float32),
        seg_fields=['gt_depth_map'],
    )


def run(steps, results):
    for step in steps:
        results = TRANSFORMS.build(step)(results)
    return results


def pipeline(name, part):
    cfg = Config.fromfile(f'{ROOT}/configs/_base_/datasets/{name}.py')
    steps = cfg[f'{part}_pipeline']
    return [step for step in steps if 'Load' not in step['type']]


def geometric(name, part):
    colour = ('ColorJitter', 'RandomGamma', 'PackDepthInputs')
    return [
        step
        for step in pipeline(name, part)
        if not any(word in step['type'] for word in colour)
    ]


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize(
    'name,part,size,exact',
    [
        ('nyu_fastdepth_h5', 'train', (224, 224), True),
        ('nyu_fastdepth_h5', 'test', (224, 224), True),
        ('nyu_bts_h5', 'train', (416, 544), False),
        ('nyu_bts_h5', 'test', (480, 640), True),
    ],
)
def test_recipes__image_and_depth_stay_together(name, part, size, exact, seed):
    np.random.seed(seed)
    results = run(geometric(name, part), make_results())
    image, depth = results['img'], results['gt_depth_map']
    assert image.shape == (*size, 3)
    assert depth.shape == size
    assert depth.dtype == np.float32
    scale = results.get('depth_scale', 1.0)
    valid = depth > 0
    assert valid.mean() > 0.95
    if part == 'test':
        assert valid.all()
    level = depth * scale / 0.04
    off = np.abs(level - image[..., 0])[valid]
    # nearest: every pixel agrees; bilinear image: all but block borders
    share = np.mean(off < 0.51)
    assert share > (0.9999 if exact else 0.7)


@pytest.mark.parametrize('name', ['nyu_fastdepth_h5', 'nyu_bts_h5'])
def test_recipes__repeat_under_a_seed(name):
    def once(seed):
        np.random.seed(seed)
        return run(pipeline(name, 'train'), make_results())

    first, second, other = once(3), once(3), once(4)
    for key in ('inputs',):
        assert (first[key] == second[key]).all()
        assert first[key].shape == other[key].shape
        assert not (first[key] == other[key]).all()
    a, b = (x['data_samples'].gt_depth_map.data for x in (first, second))
    assert (a == b).all()


def test_recipes__fastdepth_scores_the_crop():
    results = run(pipeline('nyu_fastdepth_h5', 'test'), make_results())
    sample = results['data_samples']
    assert sample.ori_shape == (224, 224)
    assert tuple(sample.gt_depth_map.data.shape) == (1, 224, 224)


@pytest.mark.parametrize('flip', [False, True])
def test_flip_and_crop__follow_one_pixel(flip):
    results = make_results(40, 60)
    results['img'][:] = 0
    results['gt_depth_map'][:] = 1
    results['img'][17, 23] = 255
    results['gt_depth_map'][17, 23] = 7
    results = run(
        [
            dict(type='mmdense.FixedCrop', rows=(5, 37), cols=(3, 57)),
            dict(type='mmseg.RandomFlip', prob=float(flip)),
            dict(type='mmdense.CenterCrop', crop_size=(40, 20)),
        ],
        results,
    )
    # row 17-5=12 of 32, minus (32-20)/2; column 20 of 54, minus 7
    col = 20 if not flip else 53 - 20
    expected = (12 - 6, col - 7)
    assert results['img'].shape[:2] == (20, 40)
    for values in (results['img'][..., 0], results['gt_depth_map']):
        assert np.unravel_index(values.argmax(), values.shape) == expected
    assert results['gt_depth_map'][expected] == 7


def test_random_scale_depth__depth_shrinks_as_image_grows():
    np.random.seed(0)
    results = RandomScaleDepth((1.5, 1.5))(make_results(48, 64))
    assert results['img'].shape[:2] == (72, 96)
    assert results['gt_depth_map'].shape == (72, 96)
    expected = results['img'][..., 0] * 0.04 / 1.5
    np.testing.assert_allclose(results['gt_depth_map'], expected, rtol=1e-5)
    scales = [
        RandomScaleDepth((1, 1.5))(make_results(8, 8))['depth_scale']
        for _ in range(50)
    ]
    assert 1 <= min(scales) < 1.1 < 1.4 < max(scales) <= 1.5


@pytest.mark.parametrize('degree', [2.5, (3.0, 3.0)])
@pytest.mark.parametrize('interpolation', ['nearest', 'bilinear'])
def test_random_rotate_depth__fills_with_invalid(degree, interpolation):
    np.random.seed(1)
    results = make_results(48, 64)
    truth = set(np.unique(results['gt_depth_map']).tolist())
    got = RandomRotateDepth(degree, interpolation=interpolation)(results)
    depth = got['gt_depth_map']
    # no new depths but 0: nothing is interpolated, nothing is 255
    assert set(np.unique(depth).tolist()) <= truth | {0.0}
    assert depth[0, 0] == 0 or depth[0, -1] == 0
    assert (depth > 0).mean() > 0.8


def test_random_rotate_depth__turns_about_the_centre():
    results = make_results(41, 41)
    results['gt_depth_map'][:] = 1
    results['gt_depth_map'][20, 38] = 5
    got = RandomRotateDepth((90.0, 90.0))(results)['gt_depth_map']
    # mmcv turns clockwise: right goes down
    assert np.unravel_index(got.argmax(), got.shape) == (38, 20)
    assert RandomRotateDepth(5, prob=0)(make_results(4, 4))['img'].any()


@pytest.mark.parametrize('unit_range', [True, False])
def test_random_gamma__equals_formula(unit_range):
    step = RandomGammaBrightnessColor(prob=1.0, unit_range=unit_range)
    rng = np.random.RandomState(0)
    image = rng.randint(0, 256, (7, 9, 3)).astype(np.uint8)
    np.random.seed(5)
    got = step(dict(img=image.copy()))['img']
    np.random.seed(5)
    np.random.rand()
    gamma = np.random.uniform(0.9, 1.1)
    brightness = np.random.uniform(0.75, 1.25)
    color = np.random.uniform(0.9, 1.1, 3)
    top = 255 if unit_range else 1
    value = (image / top) ** gamma * brightness * color * top
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.clip(np.rint(value), 0, 255))


def test_random_gamma__probability_and_range():
    image = np.full((2, 2, 3), 128, np.uint8)
    np.random.seed(0)
    step = RandomGammaBrightnessColor()
    outs = [step(dict(img=image))['img'] for _ in range(200)]
    changed = [out for out in outs if (out != 128).any()]
    assert 60 < len(changed) < 140
    # 255 * 0.502^1.1 * 0.75 * 0.9 to 255 * 0.502^0.9 * 1.25 * 1.1
    assert min(out.min() for out in changed) >= 80
    assert max(out.max() for out in changed) <= 189


def test_reset_ori_shape__takes_the_present_size():
    results = make_results(8, 10)
    results['img'] = results['img'][:5, :6]
    got = ResetOriShape()(results)
    assert got['ori_shape'] == got['img_shape'] == got['pad_shape'] == (5, 6)


def test_load_depth__units_and_invalid(tmp_path):
    raw = np.array([[0, 1000, 2500], [65535, 1, 42]], np.uint16)
    cv2.imwrite(str(tmp_path / 'd.png'), raw)
    results = dict(depth_map_path=str(tmp_path / 'd.png'))
    got = LoadDepth(1e-3)(results)
    np.testing.assert_allclose(got['gt_depth_map'], raw / 1000, rtol=1e-6)
    assert got['gt_depth_map'].dtype == np.float32
    # twice does not list the map twice
    assert LoadDepth(1e-3)(got)['seg_fields'] == ['gt_depth_map']
    kitti = LoadDepth(1 / 256)(dict(results))['gt_depth_map']
    np.testing.assert_allclose(kitti, raw / 256, rtol=1e-6)


def test_load_depth__float_maps_with_holes(tmp_path):
    raw = np.array([[np.nan, np.inf], [-1.0, 2.0]], np.float32)
    np.save(tmp_path / 'd.npy', raw)
    step = LoadDepth(1.0, decode_backend='numpy')
    got = step(dict(depth_map_path=str(tmp_path / 'd.npy')))
    assert got['gt_depth_map'].tolist() == [[0, 0], [0, 2]]


def test_load_depth__bad_files_are_named(tmp_path):
    step = LoadDepth()
    with pytest.raises(DepthFileError, match='none.png'):
        step(dict(depth_map_path=str(tmp_path / 'none.png')))
    (tmp_path / 'text.png').write_text('not a picture')
    with pytest.raises(DepthFileError, match='text.png'):
        step(dict(depth_map_path=str(tmp_path / 'text.png')))
    cv2.imwrite(str(tmp_path / 'rgb.png'), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DepthFileError, match='looks like a picture'):
        step(dict(depth_map_path=str(tmp_path / 'rgb.png')))
    cv2.imwrite(str(tmp_path / 'd.png'), np.zeros((4, 5), np.uint16))
    with pytest.raises(DepthFileError, match='differ in size'):
        step(
            dict(
                depth_map_path=str(tmp_path / 'd.png'),
                img_path='a.jpg',
                ori_shape=(4, 4),
            )
        )


def test_load_depth_h5__layout_and_colour_order(tmp_path):
    h5py = pytest.importorskip('h5py')
    rgb = np.zeros((3, 4, 5), np.uint8)
    rgb[0], rgb[2, 1, 2] = 200, 77
    depth = np.linspace(0, 9, 20, dtype=np.float32).reshape(4, 5)
    depth[0, 1] = np.nan
    path = str(tmp_path / '00001.h5')
    with h5py.File(path, 'w') as file:
        file['rgb'], file['depth'] = rgb, depth
    got = LoadDepthH5()(dict(img_path=path, seg_fields=[]))
    assert got['img'].shape == (4, 5, 3)
    assert got['img'][1, 2].tolist() == [77, 0, 200]
    assert got['ori_shape'] == (4, 5)
    assert got['gt_depth_map'][0, 1] == 0
    assert got['gt_depth_map'][3, 4] == 9
    assert got['seg_fields'] == ['gt_depth_map']


@pytest.mark.parametrize(
    'call,error,match',
    [
        (lambda: FixedCrop((5, 3), (0, 4)), ValueError, 'no window'),
        (
            lambda: FixedCrop((45, 472), (43, 608), (480, 640))(
                make_results(240, 320)
            ),
            ValueError,
            r'a\.jpg: image of \(240, 320\)',
        ),
        (
            lambda: FixedCrop((0, 50), (0, 4))(make_results(40, 40)),
            ValueError,
            'larger',
        ),
        (lambda: RandomScaleDepth((0, 1)), ValueError, 'positive'),
        (
            lambda: RandomRotateDepth(5, interpolation='area'),
            ValueError,
            'nearest',
        ),
        (
            lambda: RandomGammaBrightnessColor(gamma=(1.1, 0.9)),
            ValueError,
            'gamma',
        ),
    ],
)
def test_depth_transforms__bad_input_is_named(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_center_crop__same_rectangle_as_the_image():
    results = CenterCrop(crop_size=(304, 228))(make_results(250, 333))
    assert results['img'].shape == (228, 304, 3)
    level = results['gt_depth_map'] / 0.04
    np.testing.assert_allclose(level, results['img'][..., 0], atol=1e-3)
