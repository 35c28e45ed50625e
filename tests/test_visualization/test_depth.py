import numpy as np
import pytest
import torch

from mmdense.utils.errors import UserValueError
from mmdense.visualization import canvas
from mmdense.visualization.depth import (
    align_inverse,
    as_map,
    color_depth,
    depth_range,
    error_map,
)


def _is_grey(rgb):
    return (rgb == rgb[..., :1]).all(axis=-1)


def test_color_depth__near_is_warm_and_invalid_is_hatched():
    depth = np.array([[1.0, 5.0, 0.0, np.nan, np.inf, -1.0]])
    out = color_depth(depth, 1.0, 5.0).astype(int)[0]
    assert out[0][0] > out[0][2]  # red over blue
    assert out[1][2] > out[1][0]
    assert not _is_grey(out[:2]).any()
    assert _is_grey(out[2:]).all()
    black = color_depth(depth, 1.0, 5.0, invalid='black')[0]
    assert black[2:].sum() == 0 and black[:2].sum() > 0


@pytest.mark.parametrize('values', ['depth', 'inverse'])
def test_color_depth__near_can_be_cold(values):
    data = np.array([[1.0, 2.0, 3.0]])
    warm = color_depth(data, 1, 3, values=values)
    cold = color_depth(data, 1, 3, values=values, near='cold')
    np.testing.assert_array_equal(warm[:, ::-1], cold)
    # a large value is far as depth and near as inverse depth
    other = 'inverse' if values == 'depth' else 'depth'
    np.testing.assert_array_equal(color_depth(data, 1, 3, values=other), cold)


def test_color_depth__equals_the_colour_map_of_matplotlib():
    import matplotlib

    data = np.linspace(0, 1, 256)[None]
    out = color_depth(data, 0, 1, 'viridis', values='inverse')[0]
    expected = matplotlib.colormaps['viridis'](np.arange(256))[:, :3]
    assert np.abs(out - expected * 255).max() <= 1


def test_color_depth__inverse_depth_may_be_zero_or_negative():
    data = np.array([[-1.0, 0.0, 1.0, np.nan]])
    out = color_depth(data, values='inverse')[0]
    assert _is_grey(out).tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    'options, match',
    [
        (dict(name='nope'), "no colour map 'nope'"),
        (dict(near='hot'), "near='hot'"),
        (dict(values='disparity'), "values='disparity'"),
        (dict(invalid='red'), "invalid='red'"),
        (dict(low=3, high=3), 'from 3 to 3'),
    ],
)
def test_color_depth__wrong_choice_is_named(options, match):
    with pytest.raises(UserValueError, match=match):
        color_depth(np.ones((2, 2)), **options)


def test_depth_range__percentiles_of_valid_pixels():
    rng = np.random.RandomState(0)
    a, b = rng.rand(20, 30) + 1, rng.rand(10, 10) + 3
    a[:5] = 0
    b[0] = np.nan
    pixels = sorted([*a[5:].ravel(), *b[1:].ravel()])
    low, high = depth_range([a, b], (10, 90))
    assert low == pytest.approx(pixels[int(0.1 * (len(pixels) - 1))], abs=0.02)
    assert high == pytest.approx(
        pixels[int(0.9 * (len(pixels) - 1))], abs=0.02
    )
    assert depth_range([np.zeros((3, 3))]) == (0.0, 1.0)
    low, high = depth_range([np.full((3, 3), 2.0)])
    assert low < 2 < high


def test_error_map__colours_of_too_near_and_too_far():
    gt = np.array([[2.0, 2.0, 2.0, 0.0]])
    pred = np.array([[1.5, 2.0, 2.5, 1.0]])
    near, right, far, none = error_map(pred, gt)[0].astype(int)
    assert near[2] > near[0] + 50  # blue
    assert far[0] > far[2] + 50  # red
    assert abs(right[0] - right[2]) < 5
    assert _is_grey(none[None]).all()
    absolute = error_map(pred, gt, 'absolute')[0].astype(int)
    assert absolute[1].sum() < 20 < absolute[0].sum()
    np.testing.assert_array_equal(absolute[0], absolute[2])


def test_error_map__sizes_and_kinds():
    with pytest.raises(UserValueError, match=r'\(2, 2\) and truth \(2, 3\)'):
        error_map(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(UserValueError, match="kind='squared'"):
        error_map(np.ones((2, 2)), np.ones((2, 2)), 'squared')


def test_align_inverse__undoes_scale_and_shift():
    rng = np.random.RandomState(1)
    depth = (1 + 4 * rng.rand(7, 9)).astype(np.float32)
    truth = depth.copy()
    truth[:3] = 0
    out = align_inverse(5 / depth - 2, truth)
    np.testing.assert_allclose(out, depth, rtol=1e-4)
    assert np.isnan(align_inverse(depth, np.zeros_like(depth))).all()
    # far beyond the truth: bounded, not negative
    relative = 5 / depth - 2
    relative[0, 0] = -50
    assert align_inverse(relative, truth)[0, 0] == pytest.approx(
        10 * truth.max(), rel=1e-4
    )


@pytest.mark.parametrize('shape', [(3, 4), (1, 3, 4), (1, 1, 3, 4)])
def test_as_map__one_map(shape):
    data = torch.rand(shape, dtype=torch.float16)
    out = as_map(data)
    assert out.shape == (3, 4) and out.dtype == np.float32


@pytest.mark.parametrize('shape', [(4,), (2, 3, 4), ()])
def test_as_map__refuses_others(shape):
    with pytest.raises(UserValueError, match='is no map'):
        as_map(np.zeros(shape))


@pytest.mark.parametrize(
    'low, high, expected',
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.7, 9.8, [2, 4, 6, 8]),
        (-0.25, 0.25, [-0.2, -0.1, 0, 0.1, 0.2]),
        (1.01, 1.02, [1.01, 1.012, 1.014, 1.016, 1.018, 1.02]),
    ],
)
def test_nice_ticks__round_numbers(low, high, expected):
    assert canvas.nice_ticks(low, high) == pytest.approx(expected)


def test_legend__large_values_are_at_the_top():
    def paint(values):
        share = (255 * (values - 1) / 2).astype(np.uint8)
        return np.repeat(share[..., None], 3, axis=2)

    bar = canvas.legend(200, 1.0, 3.0, paint, 'm')
    assert bar.shape[0] == 200
    column = bar[25:-15, 8, 0].astype(int)
    assert (np.diff(column) <= 0).all()
    assert column[0] > 240 and column[-1] < 15
    # the numbers are dark on white
    assert (bar[:, 20:].min(axis=(1, 2)) < 80).sum() > 30


def test_title__too_long_a_line_is_cut():
    strip = canvas.title('x' * 500, 100, 14)
    assert strip.shape[1] == 100
    assert (strip[:, :2] == 255).all()
    assert (strip < 100).any()


def test_grid__places_every_tile():
    tiles = [np.full((4 + i, 6, 3), 10 * i, np.uint8) for i in range(5)]
    out = canvas.grid(tiles, 2, gap=1)
    assert out.shape == (5 + 1 + 7 + 1 + 8, 13, 3)
    for i in range(5):
        assert (out == 10 * i).all(axis=-1).sum() >= (4 + i) * 6
