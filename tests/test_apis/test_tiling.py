"""Windows, their weights and their alignment, against plain counting."""

import numpy as np
import pytest

from mmdense.apis.inference.tiling import (
    TileBlender,
    check_tiling,
    fit,
    predict_tiled,
    windows_of,
)
from mmdense.utils.errors import UserValueError


def _ramp(height, width, a=0.3, b=-0.2, c=50.0):
    y, x = np.mgrid[:height, :width]
    return a * x + b * y + c


@pytest.mark.parametrize('overlap', [0.1, 0.25, 0.5])
@pytest.mark.parametrize(
    'size,tile',
    [((50, 70), (20, 32)), ((33, 200), (32, 48)), ((16, 90), (40, 17))],
)
def test_windows__cover_the_image_and_overlap(size, tile, overlap):
    windows = windows_of(size, tile, overlap)
    sides = (min(tile[0], size[0]), min(tile[1], size[1]))
    assert {window[2:] for window in windows} == {sides}
    count = np.zeros(size, int)
    for window in windows:
        assert window.top >= 0 and window.left >= 0
        count[window.slices] += 1
    assert count.min() >= 1
    for axis in (0, 1):
        starts = sorted({window[axis] for window in windows})
        assert starts[0] == 0 and starts[-1] + sides[axis] == size[axis]
        for first, second in zip(starts, starts[1:]):
            shared = first + sides[axis] - second
            assert shared >= max(1, round(sides[axis] * overlap))
    assert len(windows) == len(set(windows))


@pytest.mark.parametrize('batch_size', [1, 3])
@pytest.mark.parametrize('overlap', [0.1, 0.5])
def test_predict_tiled__reproduces_functions_of_the_pixel(overlap, batch_size):
    truth = _ramp(61, 83)
    image = np.stack([truth] * 3, 2)
    sizes = []

    def predict(parts):
        sizes.append(len(parts))
        return [part[..., 1].astype(np.float32) for part in parts]

    found, counts = predict_tiled(
        image, predict, (24, 32), overlap, batch_size
    )
    assert found.dtype == np.float32 and counts['replaced'] == 0
    assert max(sizes) == batch_size and sum(sizes) == counts['windows']
    np.testing.assert_allclose(found, truth, rtol=1e-6)


def test_blender__leaves_no_seams():
    """Windows that disagree by 1 meet without a step."""
    windows = windows_of((40, 200), (40, 64), 0.25)
    assert len(windows) == 4
    blender = TileBlender((40, 200), 0.25)
    for number, window in enumerate(windows):
        blender.add(window, np.full((40, 64), float(number % 2)))
    found = blender.result()
    assert found.min() == 0 and found.max() == 1
    steps = np.abs(np.diff(found, axis=1)).max()
    # over 16 pixels a raised cosine rises by up to pi / 2 / 16 = 0.098
    assert 0.01 < steps < 0.15
    assert np.abs(np.diff(found, axis=0)).max() < 1e-6


def test_fit__is_least_squares():
    generator = np.random.default_rng(0)
    source = generator.random((9, 7)).astype(np.float32)
    target = 3 * source - 2 + 0.1 * generator.random((9, 7))
    expected = np.polyfit(source.ravel(), target.ravel(), 1)
    np.testing.assert_allclose(fit(source, target), expected, rtol=1e-6)
    flat = np.full((9, 7), 4.0)
    assert fit(flat, target) == (1.0, pytest.approx(target.mean() - 4))
    assert fit(source, flat) == (0.0, 4.0)
    assert fit(source, -target) is None


def test_predict_tiled__relative_windows_follow_the_image():
    truth = _ramp(61, 83)
    image = np.stack([truth] * 3, 2)
    generator = np.random.default_rng(1)
    calls = []

    def predict(parts):
        calls.append(len(parts))
        part = parts[0][..., 0]
        if len(calls) == 3:  # upside down
            return [-part]
        return [generator.uniform(0.1, 9) * part + generator.normal()]

    whole = truth.astype(np.float32)
    found, counts = predict_tiled(
        image, predict, (24, 32), 0.25, 1, whole=whole
    )
    assert counts == dict(windows=len(calls), replaced=1)
    np.testing.assert_allclose(found, truth, rtol=1e-5)


def test_blender__keeps_inverse_depth_at_0_or_more():
    whole = np.zeros((20, 40), np.float32)
    whole[:, 20:] = 1
    blender = TileBlender((20, 40), 0.25, whole)
    sharper = np.tile(np.linspace(-0.5, 1.5, 40), (20, 1))
    blender.add(windows_of((20, 40), (20, 40), 0.25)[0], sharper)
    assert blender.result().min() == 0


@pytest.mark.parametrize(
    'tile,overlap,word',
    [
        (8, 0.25, '16'),
        ((32, 8), 0.25, '16'),
        ((32, 32, 32), 0.25, 'height and width'),
        ((32.5, 32), 0.25, 'tile'),
        (32, 0.0, 'overlap=0'),
        (32, 0.6, 'overlap=0.6'),
    ],
)
def test_check_tiling__refuses(tile, overlap, word):
    with pytest.raises(UserValueError, match=word):
        check_tiling(tile, overlap)


def test_check_tiling__takes_a_side_or_two():
    assert check_tiling(32, 0.5) == (32, 32)
    assert check_tiling([16, 48], 0.1) == (16, 48)
