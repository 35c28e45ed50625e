import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdense.evaluation.functional.depth import (
    METRIC_NAMES,
    SUM_NAMES,
    Alignment,
    Region,
    align_depth,
    clean_prediction,
    crop_region,
    depth_sums,
    evaluation_region,
    fit_alignment,
    metrics_from_sums,
    reduce_sums,
    silog_focus,
    valid_pixels,
)
from mmdense.testing.golden_cases.depth import depth_metrics

GOLDEN = Path(__file__).parents[2] / 'data' / 'golden'


def make_pair(seed=0, shape=(6, 9)):
    rng = np.random.RandomState(seed)
    target = rng.uniform(0.5, 9, shape).astype(np.float32)
    pred = (target * rng.uniform(0.6, 1.7, shape)).astype(np.float32)
    target[rng.rand(*shape) < 0.3] = 0
    return pred, target


def loop_metrics(pred, target, low, high):
    rows = [
        (float(p), float(t))
        for p, t in zip(pred.ravel(), target.ravel())
        if low < t < high
    ]
    n = len(rows)
    g = [math.log(p) - math.log(t) for p, t in rows]
    mean_g = sum(g) / n
    square_g = sum(x * x for x in g) / n
    out = {
        'abs_rel': sum(abs(p - t) / t for p, t in rows) / n,
        'sq_rel': sum((p - t) ** 2 / t for p, t in rows) / n,
        'rmse': math.sqrt(sum((p - t) ** 2 for p, t in rows) / n),
        'rmse_log': math.sqrt(square_g),
        'log10': sum(abs(math.log10(p / t)) for p, t in rows) / n,
    }
    for k in (1, 2, 3):
        hits = [max(p / t, t / p) < 1.25**k for p, t in rows]
        out[f'd{k}'] = sum(hits) / n
    for focus in (1.0, 0.5):
        out[f'silog@{focus}'] = 100 * math.sqrt(square_g - focus * mean_g**2)
    out['silog'] = out['silog@1.0']
    out['mae'] = sum(abs(p - t) for p, t in rows) / n
    out['d1_error'] = 100 * (1 - out['d1'])
    return out


@pytest.mark.parametrize('seed', [0, 1, 2])
@pytest.mark.parametrize('high', [3.0, 80.0])
@pytest.mark.parametrize('as_tensor', [False, True])
def test_metrics__equal_loop(seed, high, as_tensor):
    pred, target = make_pair(seed)
    expected = loop_metrics(pred, target, 1e-3, high)
    if as_tensor:
        pred, target = torch.from_numpy(pred), torch.from_numpy(target)
    sums = depth_sums(pred, target, valid_pixels(target, 1e-3, high))
    got = metrics_from_sums(sums, tuple(expected))
    assert set(METRIC_NAMES) <= set(expected)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-6), name


def test_metrics__hand_made_map():
    target = np.array([[1.0, 2.0], [4.0, 0.0]])
    pred = np.array([[1.0, 3.0], [2.0, 9.0]])
    got = metrics_from_sums(depth_sums(pred, target, valid_pixels(target)))
    assert got['abs_rel'] == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert got['sq_rel'] == pytest.approx((0 + 0.5 + 1) / 3)
    assert got['rmse'] == pytest.approx(math.sqrt(5 / 3))
    assert got['d1'] == pytest.approx(1 / 3)
    assert got['d2'] == pytest.approx(2 / 3)
    assert got['d3'] == pytest.approx(2 / 3)


def test_metrics__scaled_prediction_has_zero_silog():
    _, target = make_pair()
    mask = valid_pixels(target)
    sums = depth_sums(np.maximum(target, 0.1) * 1.3, target, mask)
    got = metrics_from_sums(sums, ('silog', 'silog@0.5', 'silog@0'))
    assert got['silog'] == pytest.approx(0, abs=1e-4)
    assert got['silog@0.5'] == pytest.approx(
        100 * math.log(1.3) * math.sqrt(0.5), rel=1e-5
    )
    assert got['silog@0'] == pytest.approx(100 * math.log(1.3), rel=1e-5)


def test_metrics__small_silog_survives_float32():
    rng = np.random.RandomState(0)
    target = rng.uniform(1, 9, 200000)
    factor = 1.3 * np.exp(1e-4 * rng.randn(200000))
    pred, target = (target * factor).astype('f4'), target.astype('f4')
    g = np.log(pred.astype('f8')) - np.log(target.astype('f8'))
    got = metrics_from_sums(depth_sums(pred, target), ('silog', 'rmse_log'))
    assert got['silog'] == pytest.approx(100 * g.std(), rel=1e-4)
    assert got['rmse_log'] == pytest.approx(np.sqrt(np.mean(g**2)), rel=1e-6)


def test_depth_sums__huge_values_stay_finite():
    sums = depth_sums(np.full((2, 2), 3e38, 'f4'), np.ones((2, 2), 'f4'))
    got = metrics_from_sums(sums, METRIC_NAMES)
    assert got['rmse'] == pytest.approx(3e38, rel=1e-6)
    assert all(math.isfinite(value) for value in got.values())


@pytest.mark.parametrize('offset', [0.0, 1e4])
def test_fit_alignment__equals_lstsq(offset):
    rng = np.random.RandomState(3)
    x = rng.rand(500) + offset
    y = 0.4 * x - 2 + 0.05 * rng.randn(500)
    x[:3] = np.nan, np.inf, -np.inf
    kept = np.isfinite(x)
    fit = fit_alignment(
        torch.from_numpy(x), torch.from_numpy(y), 'least_squares'
    )
    expected, *_ = np.linalg.lstsq(
        np.stack([x[kept] - offset, np.ones(497)], 1), y[kept], rcond=None
    )
    assert fit.scale == pytest.approx(expected[0], rel=1e-7)
    at_offset = fit.shift + fit.scale * offset
    assert at_offset == pytest.approx(expected[1], abs=1e-6)


def test_fit_alignment__median_is_that_of_numpy():
    x = torch.tensor([1.0, 2.0, 4.0, 8.0])
    y = torch.tensor([10.0, 30.0, 50.0, 90.0])
    assert fit_alignment(x, y, 'median') == Alignment(40 / 3, 0.0)


@pytest.mark.parametrize(
    'pred,expected',
    [
        (torch.full((4,), 7.0), Alignment(0.0, 2.5)),
        (torch.full((4,), math.nan), Alignment(1.0, 0.0)),
    ],
)
def test_fit_alignment__nothing_to_fit(pred, expected):
    target = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert fit_alignment(pred, target, 'least_squares') == expected


def test_align_depth__exact_up_to_scale_and_shift():
    target = torch.tensor([1.0, 2.0, 5.0, 8.0])
    depth, fit, deviation = align_depth(
        30 / target - 4, target, 'least_squares', 'inverse', 'inverse', 10.0
    )
    torch.testing.assert_close(depth, target, rtol=1e-5, atol=0)
    assert fit.scale == pytest.approx(1 / 30, rel=1e-5)
    assert fit.shift == pytest.approx(4 / 30, rel=1e-5)
    assert deviation < 1e-5


def test_align_depth__deviation_in_ranges_of_the_truth():
    # inverse depth 1, 1/2, 0.2; the median of both is 1/2
    target = torch.tensor([1.0, 2.0, 5.0])
    pred = torch.tensor([0.9, 0.5, 0.4])
    _, _, deviation = align_depth(pred, target, 'median', 'inverse', 'inverse')
    assert deviation == pytest.approx((0.1 + 0 + 0.2) / 0.8, rel=1e-5)


@pytest.mark.parametrize('space', ['depth', 'inverse'])
@pytest.mark.parametrize('count', [1, 3])
def test_align_depth__constant_truth_has_no_solution(space, count):
    target = torch.full((count,), 2.0)
    pred = torch.linspace(1, 3, 5)[:count]
    depth, fit, deviation = align_depth(pred, target, 'least_squares', space)
    numbers = [*depth.tolist(), *fit, deviation]
    assert all(map(math.isnan, numbers)) and len(depth) == count
    # a factor does not depend on the spread of the truth
    depth, fit, _ = align_depth(pred, target, 'median', space)
    assert torch.isfinite(depth).all() and fit.scale > 0


def test_reduce_sums__image_and_pixel():
    rows, images = [], []
    for seed, shape in ((0, (4, 5)), (1, (9, 7))):
        pred, target = make_pair(seed, shape)
        images.append(loop_metrics(pred, target, 1e-3, 99))
        rows.append(depth_sums(pred, target, valid_pixels(target)))
    rows.insert(1, np.zeros(len(SUM_NAMES)))
    # could not be aligned
    rows.insert(2, np.array([7.0, *np.full(len(SUM_NAMES) - 1, math.nan)]))
    by_image = reduce_sums(np.stack(rows))
    for name in METRIC_NAMES:
        expected = (images[0][name] + images[1][name]) / 2
        assert by_image[name] == pytest.approx(expected, rel=1e-6)
    (p0, t0), (p1, t1) = make_pair(0, (4, 5)), make_pair(1, (9, 7))
    pixels = loop_metrics(
        np.concatenate([p0.ravel(), p1.ravel()]),
        np.concatenate([t0.ravel(), t1.ravel()]),
        1e-3,
        99,
    )
    by_pixel = reduce_sums(np.stack(rows), reduction='pixel')
    for name in METRIC_NAMES:
        assert by_pixel[name] == pytest.approx(pixels[name], rel=1e-6)
    assert by_pixel['rmse'] != pytest.approx(by_image['rmse'], rel=1e-3)


def test_reduce_sums__nothing_valid_gives_nan():
    got = reduce_sums(np.zeros((3, len(SUM_NAMES))), ('rmse',))
    assert math.isnan(got['rmse'])


def test_valid_pixels__bounds_are_strict():
    target = np.array([0, 1e-3, 2e-3, 9.99, 10, np.nan, np.inf, -1], 'f4')
    got = valid_pixels(target, 1e-3, 10).tolist()
    assert got == [False, False, True, True, False, False, False, False]
    assert valid_pixels(target, 0.5).sum() == 2


def test_clean_prediction__broken_values_go_to_range_ends():
    pred = np.array([np.nan, np.inf, -np.inf, -3, 0.5, 99], np.float32)
    got = clean_prediction(pred, 1e-3, 10).tolist()
    assert got == pytest.approx([1e-3, 10, 1e-3, 1e-3, 0.5, 10])
    assert torch.isfinite(clean_prediction(pred)).all()


@pytest.mark.parametrize(
    'shape,crop,expected',
    [
        ((480, 640), 'nyu_eigen', (45, 471, 41, 601)),
        ((480, 640), 'none', (0, 480, 0, 640)),
        ((352, 1216), 'garg', (143, 349, 43, 1172)),
        ((352, 1216), 'kitti_eigen', (117, 321, 43, 1172)),
        ((375, 1242), 'garg', (153, 371, 44, 1197)),
    ],
)
def test_crop_region__counted(shape, crop, expected):
    region = crop_region(shape, crop)
    assert region == Region(*expected)
    ones = torch.ones(shape)
    top, bottom, left, right = expected
    assert region.of(ones).sum() == (bottom - top) * (right - left)


def test_evaluation_region__garg_on_kb_or_full():
    # KB of 375x1242 starts at row 23, column 13
    on_kb = evaluation_region((375, 1242), 'garg', True, 'kb')
    assert on_kb == Region(23 + 143, 23 + 349, 13 + 43, 13 + 1172)
    on_full = evaluation_region((375, 1242), 'garg', True, 'full')
    assert on_full == Region(153, 371, 44, 1197)
    assert on_kb != on_full


@pytest.mark.parametrize(
    'call,match',
    [
        (lambda: crop_region((40, 40), 'nyu_eigen'), 'nothing'),
        (lambda: crop_region((40, 40), 'eigen'), 'unknown crop'),
        (lambda: evaluation_region((240, 320), 'garg', True), '352'),
        (lambda: evaluation_region((9, 9), garg_on='x'), 'garg_on'),
        (
            lambda: fit_alignment(torch.ones(2), torch.ones(2), 'affine'),
            'alignment=.*median',
        ),
        (lambda: silog_focus('silog@two'), 'silog@0.5'),
        (lambda: silog_focus('silog@1.5'), r'\[0, 1\]'),
        (lambda: metrics_from_sums(np.ones(10), ('a1',)), 'unknown depth'),
        (lambda: reduce_sums(np.ones((1, 10)), reduction='x'), 'reduction'),
        (lambda: depth_sums(np.ones((2, 3)), np.ones((3, 2))), 'shape'),
    ],
)
def test_depth_functions__bad_input_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_depth_metrics__golden():
    index = json.loads((GOLDEN / 'index.json').read_text())
    (case,) = [c for c in index['cases'] if c['name'] == 'depth_metrics']
    arrays = dict(np.load(GOLDEN / case['file']))
    seen = set()
    for name, got, expected, rtol, atol in depth_metrics(case, arrays):
        np.testing.assert_allclose(
            got, expected, rtol=rtol, atol=atol, err_msg=name
        )
        seen.add(name)
    assert seen == {name for name in arrays if name.startswith('out/')}
