import math

import numpy as np
import pytest

from mmdense.visualization import DepthStatistics


def filled(*maps):
    statistics = DepthStatistics()
    for one in maps:
        statistics.add(np.asarray(one, np.float32))
    return statistics


def test_statistics__equal_numpy():
    rng = np.random.RandomState(0)
    maps = [np.exp(rng.randn(30, 40)) for _ in range(3)]
    statistics = filled(*maps)
    pixels = np.concatenate([m.ravel() for m in maps])
    for percent in (1, 5, 50, 95, 99):
        assert statistics.percentile(percent) == pytest.approx(
            np.percentile(pixels, percent), rel=0.02
        )
    assert statistics.least == pytest.approx(pixels.min())
    assert statistics.largest == pytest.approx(pixels.max())
    assert statistics.invalid == 0


def test_statistics__images_weigh_the_same():
    # 1 m in 4 pixels, 9 m in 400 pixels
    few = np.zeros((20, 20))
    few[0, :4] = 1
    statistics = filled(few, few, np.full((20, 20), 9.0))
    assert statistics.median == pytest.approx(1, rel=0.003)
    assert statistics.invalid == pytest.approx(1 - 408 / 1200)


def test_statistics__invalid_and_empty():
    odd = [[0, -1, np.nan, np.inf, 2, 2]]
    statistics = filled(odd, np.zeros((1, 6)))
    assert (statistics.images, statistics.empty) == (2, 1)
    assert statistics.valid == 2
    assert statistics.median == pytest.approx(2)
    empty = filled(np.zeros((2, 2)))
    assert math.isnan(empty.median) and math.isnan(empty.best_constant())
    assert len(empty.lines()) == 1
    assert filled().invalid == 0


def test_best_constant__equals_a_search():
    rng = np.random.RandomState(1)
    depth = np.concatenate((2 + rng.rand(500), 6 + 4 * rng.rand(400)))
    statistics = filled(depth[None])

    def share(c):
        return (np.maximum(depth / c, c / depth) < 1.25).mean()

    best = max(share(c) for c in np.linspace(1, 12, 4000))
    assert share(statistics.best_constant()) == pytest.approx(best, abs=0.01)


def test_histogram__shares_add_up():
    rng = np.random.RandomState(2)
    depth = rng.rand(50, 60) * 9 + 0.5
    statistics = filled(depth)
    lower, shares, beyond = statistics.histogram()
    assert sum(shares) + beyond == pytest.approx(1)
    step = lower[1] - lower[0]
    for low, share in zip(lower, shares):
        inside = ((depth >= low) & (depth < low + step)).mean()
        assert share == pytest.approx(inside, abs=0.01)
    text = '\n'.join(statistics.lines())
    assert '#' * 40 in text and ' m ' in text


def test_merge__equals_adding_all():
    rng = np.random.RandomState(3)
    maps = [rng.rand(5, 6) + i for i in range(4)]
    whole, half, other = filled(*maps), filled(*maps[:2]), filled(*maps[2:])
    half.merge(other)
    assert half.lines() == whole.lines()
    assert half.best_constant() == whole.best_constant()
