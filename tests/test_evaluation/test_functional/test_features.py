import math

import pytest
import torch

from mmdense.evaluation.functional.features import (
    effective_rank,
    feature_std,
    neighbor_change,
)


def _loop_std(x):
    rows = [row / math.sqrt(sum(v * v for v in row)) for row in x.double()]
    dims, count = x.shape[1], len(rows)
    total = 0.0
    for d in range(dims):
        values = [float(row[d]) for row in rows]
        mean = sum(values) / count
        total += math.sqrt(sum((v - mean) ** 2 for v in values) / count)
    return total / dims * math.sqrt(dims)


def _loop_rank(x):
    values = torch.linalg.svdvals(x.double()).tolist()
    total = sum(values)
    entropy = 0.0
    for value in values:
        if value > 0:
            entropy -= value / total * math.log(value / total)
    return math.exp(entropy)


def _loop_change(before, after):
    changed = [
        set(map(int, b)) != set(map(int, a))
        for old, new in zip(before, after)
        for b, a in zip(old, new)
    ]
    return sum(changed) / len(changed)


@pytest.mark.parametrize('shape', [(2, 3), (7, 4), (5, 16)])
def test_feature_std__equals_a_loop(shape):
    x = torch.randn(shape) + 0.5
    assert float(feature_std(x)) == pytest.approx(_loop_std(x), rel=1e-5)


def test_feature_std__is_one_for_spread_and_zero_for_collapsed_rows():
    assert float(feature_std(torch.randn(4000, 64))) == pytest.approx(
        1, abs=0.02
    )
    one = torch.randn(1, 64)
    # the length does not count, only the direction
    assert float(feature_std(one * torch.rand(50, 1).add(0.1))) < 1e-5
    assert math.isnan(feature_std(torch.tensor([[1.0, math.nan]] * 3)))


def test_feature_std__takes_any_leading_axes_and_half_precision():
    x = torch.randn(3, 5, 8)
    assert torch.equal(feature_std(x), feature_std(x.flatten(0, 1)))
    assert feature_std(x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize('shape', [(3, 8), (8, 3), (40, 12)])
@pytest.mark.parametrize('center', [False, True])
def test_effective_rank__equals_singular_values(shape, center):
    x = torch.randn(shape) + 1
    wanted = _loop_rank(x - x.mean(0) if center else x)
    got = float(effective_rank(x, center=center))
    assert got == pytest.approx(wanted, rel=1e-5)


def test_effective_rank__of_known_matrices():
    # k orthogonal directions of equal strength have rank k
    for k in (1, 3, 6):
        assert float(effective_rank(torch.eye(6)[:k])) == pytest.approx(k)
        assert float(
            effective_rank(torch.eye(6)[:k].repeat(5, 1) * 7)
        ) == pytest.approx(k)
    collapsed = torch.randn(1, 16) + 1e-6 * torch.randn(100, 16)
    assert float(effective_rank(collapsed)) == pytest.approx(1, abs=1e-3)
    # why it is not centred by default
    assert float(effective_rank(collapsed, center=True)) > 10
    assert float(effective_rank(torch.zeros(4, 4))) == 0
    assert math.isnan(effective_rank(torch.full((4, 4), math.inf)))


def test_features__refuse_what_has_no_rows():
    for function in (feature_std, effective_rank):
        for shape in ((4,), (0, 4), (4, 0)):
            with pytest.raises(ValueError, match=r'\(rows, D\)'):
                function(torch.zeros(shape))


@pytest.mark.parametrize('k', [1, 2, 4])
def test_neighbor_change__equals_a_loop_over_sets(k):
    draw = torch.rand(2, 3, 30, 6).argsort(dim=-1)[..., :k]
    before, after = draw
    wanted = _loop_change(before, after)
    assert 0 < wanted < 1
    assert float(neighbor_change(before, after)) == pytest.approx(wanted)


def test_neighbor_change__order_does_not_count():
    index = torch.rand(2, 9, 8).argsort(dim=-1)[..., :4]
    assert float(neighbor_change(index, index.flip(-1))) == 0
    other = index.clone()
    other[1, 3, 2] = 99
    assert float(neighbor_change(index, other)) == pytest.approx(1 / 18)


def test_neighbor_change__shapes_are_checked():
    index = torch.zeros(2, 9, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=r'\(2, 9, 4\) and \(2, 9, 3\)'):
        neighbor_change(index, index[..., :3])
    with pytest.raises(ValueError, match='none of them 0'):
        neighbor_change(index[:0], index[:0])
