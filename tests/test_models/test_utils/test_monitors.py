import math

import pytest
import torch

from mmdense.models.utils.monitors import entropy_monitors, feature_spread


def _rows(rows=6, width=5, seed=0, sharp=1.0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=g, dtype=torch.float64) * sharp


def test_feature_spread__equals_loops():
    rows = _rows(7, 4)
    unit = [row / math.sqrt(sum(v * v for v in row)) for row in rows]
    stds = []
    for column in range(4):
        values = [float(row[column]) for row in unit]
        mean = sum(values) / 7
        stds.append(math.sqrt(sum((v - mean) ** 2 for v in values) / 7))
    want = sum(stds) / 4 * math.sqrt(4)
    assert feature_spread(rows).item() == pytest.approx(want, rel=1e-5)


def test_feature_spread__ends_of_the_scale():
    assert feature_spread(torch.ones(5, 8)).item() == pytest.approx(0)
    wide = feature_spread(_rows(4000, 16)).item()
    assert wide == pytest.approx(1, abs=0.02)
    # length does not count, and nothing goes back into the features
    rows = _rows(6, 4).requires_grad_()
    assert not feature_spread(rows).requires_grad
    assert torch.equal(feature_spread(rows), feature_spread(rows * 4))


@pytest.mark.parametrize('sharp', [0.1, 1.0, 30.0])
@pytest.mark.parametrize('images', [1, 3, 6, 100])
def test_entropy_monitors__equal_loops(sharp, images):
    log_p = _rows(sharp=sharp).log_softmax(dim=1)
    p = log_p.exp()
    entropies = [
        -sum(float(v) * math.log(float(v)) for v in row if v > 0) for row in p
    ]
    mean = [sum(float(row[k]) for row in p) / 6 for k in range(5)]
    joint = -sum(v * math.log(v) for v in mean if v > 0)
    entropy = sum(entropies) / 6
    got = entropy_monitors(p, log_p, images)
    largest = math.log(max(2, min(images, 5)))
    assert got[0].item() == pytest.approx(entropy / math.log(5))
    assert got[1].item() == pytest.approx((joint - entropy) / largest)


def test_entropy_monitors__tell_both_collapses_from_health():
    flat = torch.full((8, 8), 1 / 8)
    same = torch.zeros(8, 8)
    same[:, 2] = 1
    apart = torch.eye(8)
    want = {'flat': (1, 0), 'same': (0, 0), 'apart': (0, 1)}
    found = {'flat': flat, 'same': same, 'apart': apart}
    for name, p in found.items():
        # minus infinity would be 0 * inf; log_softmax never gives it
        log_p = p.clamp_min(1e-30).log()
        entropy, information = entropy_monitors(p, log_p, 8)
        assert entropy.item() == pytest.approx(want[name][0], abs=1e-6)
        assert information.item() == pytest.approx(want[name][1], abs=1e-6)


def test_entropy_monitors__views_of_an_image_do_not_count_as_images():
    """Two views of each of 4 images, told apart by image: 1."""
    p = torch.eye(4).repeat(2, 1)
    p = torch.cat((p, torch.zeros(8, 12)), dim=1)
    information = entropy_monitors(p, p.clamp_min(1e-30).log(), 4)[1]
    assert information.item() == pytest.approx(1)
