"""Neighbours against loops over patches."""

import math
import pickle
from copy import deepcopy

import pytest
import torch

from mmdense.models.utils.neighbor_matching import (
    NeighborMatching,
    neighbor_table,
)

GRIDS = [(3, 4), (6, 6), (14, 14)]
# torch 2.1 has autocast to bfloat16 alone on the CPU
HALF = [torch.bfloat16, torch.float16]
HALF = HALF if hasattr(torch, 'get_autocast_dtype') else HALF[:1]


def _around(hw, patch, window, border):
    """Flat indices of the neighbours of a patch, in reading order."""
    height, width = hw
    y, x = divmod(patch, width)
    if window == 'all':
        return [other for other in range(height * width) if other != patch]
    found = []
    reach = range(-(window // 2), window // 2 + 1)
    for dy in reach:
        for dx in reach:
            if (dy, dx) == (0, 0):
                continue
            row, column = y + dy, x + dx
            if border == 'wrap':
                row, column = row % height, column % width
            elif not (0 <= row < height and 0 <= column < width):
                continue
            found.append(row * width + column)
    return found


def _cosine(a, b):
    return float(a @ b) / (
        math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)) + 1e-30
    )


def _best(tokens, hw, window, border, top_k):
    """``[[chosen patches] for each patch]`` of one image."""
    chosen = []
    for patch in range(hw[0] * hw[1]):
        near = _around(hw, patch, window, border)
        near.sort(key=lambda n: -_cosine(tokens[patch], tokens[n]))
        chosen.append(near[:top_k])
    return chosen


def _tokens(images, hw, dims=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(
        images, hw[0] * hw[1], dims, generator=g, dtype=torch.float64
    )


@pytest.mark.parametrize('border', ['mask', 'wrap'])
@pytest.mark.parametrize('window', [3, 5, 7, 'all'])
@pytest.mark.parametrize('hw', [*GRIDS, (1, 5), (2, 2), (7, 9)])
def test_neighbor_table__equals_loops(hw, window, border):
    if border == 'wrap' and window != 'all' and min(hw) < window:
        with pytest.raises(ValueError, match='its own neighbour'):
            neighbor_table(hw, window, border)
        return
    index, valid = neighbor_table(hw, window, border)
    for patch in range(hw[0] * hw[1]):
        want = _around(hw, patch, window, border)
        assert sorted(index[patch][valid[patch]].tolist()) == sorted(want)
        assert (index[patch][~valid[patch]] == patch).all()
        assert len(set(want)) == len(want)


@pytest.mark.parametrize('hw', GRIDS)
def test_neighbor_table__masked_counts(hw):
    valid = neighbor_table(hw, 3, 'mask')[1].sum(dim=1).reshape(hw)
    for y in range(hw[0]):
        for x in range(hw[1]):
            ends = (y in (0, hw[0] - 1)) + (x in (0, hw[1] - 1))
            assert valid[y, x] == {0: 8, 1: 5, 2: 3}[ends]


@pytest.mark.parametrize('hw', GRIDS)
def test_neighbor_table__wrapped_relation_is_symmetric(hw):
    index, valid = neighbor_table(hw, 3, 'wrap')
    count = hw[0] * hw[1]
    assert index.shape == (count, 8) and valid.all()
    related = torch.zeros(count, count, dtype=torch.bool)
    related.scatter_(1, index, True)
    assert (related.sum(dim=1) == 8).all()
    assert torch.equal(related, related.t())
    assert not related.diagonal().any()
    # what the official code takes from the far side: the frame
    reach = neighbor_table(hw, 3, 'mask')[1].sum(dim=1)
    assert int((reach < 8).sum()) == count - (hw[0] - 2) * (hw[1] - 2)


FITTING = [
    (hw, window, border)
    for hw in ((6, 6), (7, 9), (3, 4))
    for window in (3, 5, 7, 'all')
    for border in ('mask', 'wrap')
    if border == 'mask' or window == 'all' or min(hw) >= window
]


@pytest.mark.parametrize('hw,window,border', FITTING)
@pytest.mark.parametrize('top_k', [1, 4, 8])
def test_forward__equals_loops(hw, window, border, top_k):
    tokens = _tokens(2, hw)
    found = NeighborMatching(window, top_k, border)(tokens.float(), hw)
    assert found.chosen.shape == (2, hw[0] * hw[1], top_k)
    assert found.chosen.dtype == torch.int64
    fewest = min(
        len(_around(hw, patch, window, border))
        for patch in range(hw[0] * hw[1])
    )
    assert (found.valid is None) == (fewest >= top_k)
    for image in range(2):
        best = _best(tokens[image], hw, window, border, top_k)
        for patch, want in enumerate(best):
            got = found.chosen[image, patch]
            if found.valid is not None:
                mask = found.valid[image, patch]
                # whatever exists comes first
                assert mask.tolist() == sorted(mask.tolist(), reverse=True)
                got = got[mask]
            assert got.tolist() == want


def test_forward__neighbours_outside_lose_to_the_worst_inside():
    """All cosines are -1 or 1; a frame patch must not fill up with itself."""
    hw = (4, 4)
    sign = torch.tensor([1.0, -1.0])[torch.arange(16).reshape(4, 4) % 2]
    tokens = torch.zeros(1, 16, 3)
    tokens[0, :, 0] = sign.flatten()
    matching = NeighborMatching(3, 3, 'mask')
    found = matching(tokens, hw)
    assert found.valid is None
    table, valid = neighbor_table(hw, 3, 'mask')
    for patch in range(16):
        inside = set(table[patch][valid[patch]].tolist())
        assert set(found.chosen[0, patch].tolist()) <= inside


@pytest.mark.parametrize('hw', [(3, 4), (6, 6)])
def test_similarity__equals_loops(hw):
    tokens = _tokens(2, hw)
    matching = NeighborMatching(3, 4, 'mask')
    index, valid = matching.table(hw)
    got = matching.similarity(tokens.float(), hw)
    assert got.dtype == torch.float32
    for image in range(2):
        for patch in range(hw[0] * hw[1]):
            for slot in range(8):
                if not valid[patch, slot]:
                    assert got[image, patch, slot] == -math.inf
                    continue
                other = int(index[patch, slot])
                want = _cosine(tokens[image, patch], tokens[image, other])
                assert got[image, patch, slot].item() == pytest.approx(
                    want, abs=1e-6
                )


@pytest.mark.parametrize('dtype', HALF)
def test_forward__autocast_does_not_change_the_choice(dtype):
    """Similarities of near neighbours differ by less than fp16 resolves."""
    g = torch.Generator().manual_seed(0)
    tokens = 1 + 0.01 * torch.randn(3, 36, 16, generator=g)
    matching = NeighborMatching(3, 4, 'mask')
    want = matching(tokens, (6, 6))
    with torch.autocast('cpu', dtype=dtype):
        got = matching(tokens, (6, 6))
        scores = matching.similarity(tokens, (6, 6))
    assert scores.dtype == torch.float32
    assert torch.equal(got.chosen, want.chosen)
    assert torch.equal(got.valid, want.valid)
    # tokens that come in half precision are compared in float32 too
    half = tokens.to(dtype)
    got = matching(half, (6, 6))
    assert torch.equal(got.chosen, matching(half.float(), (6, 6)).chosen)


def test_forward__no_gradient_and_no_change_of_state():
    matching = NeighborMatching()
    tokens = torch.randn(1, 36, 4, requires_grad=True)
    before = torch.get_rng_state()
    found = matching(tokens, (6, 6))
    assert not found.chosen.requires_grad
    assert torch.equal(torch.get_rng_state(), before)
    assert matching.state_dict() == {}
    # tables are kept by grid, and a copy can be made with them
    matching(torch.randn(1, 12, 4), (3, 4))
    for copy in (deepcopy(matching), pickle.loads(pickle.dumps(matching))):
        assert torch.equal(copy(tokens, (6, 6)).chosen, found.chosen)


@pytest.mark.parametrize('value', [0.0, math.nan, math.inf])
def test_forward__degenerate_tokens_stay_inside_the_grid(value):
    hw = (3, 4)
    found = NeighborMatching(3, 3)(torch.full((1, 12, 4), value), hw)
    assert found.chosen.min() >= 0 and found.chosen.max() < 12


@pytest.mark.parametrize(
    'options,told',
    [
        (dict(window=3, top_k=9), 'a window of 3x3 has 8'),
        (dict(window=5, top_k=25), 'a window of 5x5 has 24'),
        (dict(window=3, top_k=0), 'top_k=0'),
        (dict(window='all', top_k=0), 'at least 1'),
        (dict(window=4), 'window=4'),
        (dict(window=1), 'window=1'),
        (dict(window='some'), "window='some'"),
        (dict(border='reflect'), "border='reflect'"),
    ],
)
def test_init__options_out_of_range(options, told):
    with pytest.raises(ValueError, match=told):
        NeighborMatching(**options)


def test_forward__grid_too_small():
    matching = NeighborMatching(3, 4, 'mask')
    with pytest.raises(ValueError, match='1x1 patches gives a patch 0'):
        matching(torch.zeros(2, 1, 4), (1, 1))
    with pytest.raises(ValueError, match='top_k=4'):
        NeighborMatching('all', 4)(torch.zeros(2, 4, 4), (2, 2))
    with pytest.raises(ValueError, match='2x6 patches is smaller'):
        NeighborMatching(3, 4, 'wrap')(torch.zeros(2, 12, 4), (2, 6))


def test_forward__grid_that_does_not_fit_the_tokens():
    with pytest.raises(ValueError, match=r'\(2, 35, 4\) do not fit'):
        NeighborMatching()(torch.zeros(2, 35, 4), (6, 6))
