import logging

import numpy as np
import pytest
import torch

from mmdense.utils import position
from mmdense.utils.position import (
    PositionError,
    fit_pos_embed,
    infer_grid,
    infer_window,
    resize_pos_embed,
    resize_rel_pos_table,
)


def _cubic(distance):
    # Keys' kernel with a = -0.75, as torch uses it
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    if d < 2:
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return 0.0


def _axis(src, dst, mode, step):
    """Interpolation matrix of one side in plain Python."""
    out = np.zeros((dst, src))
    for i in range(dst):
        at = (i + 0.5) * step - 0.5
        if mode == 'bilinear':
            at = max(at, 0.0)
        base = int(np.floor(at))
        for k in range(base - 1, base + 3):
            if mode == 'bicubic':
                weight = _cubic(at - k)
            else:
                weight = max(0.0, 1 - abs(at - k))
            out[i, min(max(k, 0), src - 1)] += weight
    return out


def _reference(grid, dst, mode, rule):
    src = grid.shape[:2]
    steps = [
        s / d if rule == 'size' else s / (d + 0.1) for s, d in zip(src, dst)
    ]
    rows = _axis(src[0], dst[0], mode, steps[0])
    columns = _axis(src[1], dst[1], mode, steps[1])
    return np.einsum('ih,jw,hwc->ijc', rows, columns, grid)


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('rule', ['size', 'scale'])
@pytest.mark.parametrize('extra', [0, 1, 2, 5])
@pytest.mark.parametrize(
    'src, dst',
    [
        ((14, 14), (32, 32)),
        ((14, 14), (24, 31)),
        ((4, 7), (7, 4)),
        ((14, 14), (7, 28)),
        ((5, 5), (1, 1)),
    ],
)
def test_resize_pos_embed__plain_loop(mode, rule, extra, src, dst):
    torch.manual_seed(0)
    embed = torch.randn(1, extra + src[0] * src[1], 3)
    got = resize_pos_embed(embed, src, dst, mode, rule, extra)
    grid = embed[0, extra:].reshape(*src, 3).double().numpy()
    wanted = _reference(grid, dst, mode, rule).reshape(-1, 3)
    assert got.shape == (1, extra + dst[0] * dst[1], 3)
    assert torch.equal(got[:, :extra], embed[:, :extra])
    np.testing.assert_allclose(got[0, extra:], wanted, rtol=0, atol=2e-5)


def test_resize_pos_embed__rules_differ():
    embed = torch.randn(1, 197, 4)
    size = resize_pos_embed(embed, (14, 14), (30, 30), rule='size')
    scale = resize_pos_embed(embed, (14, 14), (30, 30), rule='scale')
    assert (size - scale).abs().max() > 1e-3


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_resize_pos_embed__half_is_computed_in_fp32(dtype):
    embed = torch.randn(1, 17, 4).to(dtype)
    got = resize_pos_embed(embed, (4, 4), (6, 5))
    wanted = resize_pos_embed(embed.float(), (4, 4), (6, 5)).to(dtype)
    assert got.dtype == dtype
    assert torch.equal(got, wanted)


def test_resize_pos_embed__same_grid_is_the_same_tensor():
    embed = torch.randn(1, 17, 4)
    assert resize_pos_embed(embed, (4, 4), (4, 4), rule='scale') is embed


def test_resize_pos_embed__gradient_reaches_every_entry():
    embed = torch.randn(1, 17, 4, requires_grad=True)
    resize_pos_embed(embed, (4, 4), (8, 8)).square().sum().backward()
    assert (embed.grad.abs().sum(-1) > 0).all()


def test_resize_pos_embed__logs_once(monkeypatch):
    lines = []
    monkeypatch.setattr(
        position, 'print_log', lambda text, **kwargs: lines.append(text)
    )
    position._log_once.cache_clear()
    embed = torch.randn(1, 10, 4)
    for _ in range(3):
        resize_pos_embed(embed, (3, 3), (5, 7))
    resize_pos_embed(embed, (3, 3), (5, 7), mode='bilinear')
    assert len(lines) == 2
    assert '3x3' in lines[0] and '5x7' in lines[0] and 'bicubic' in lines[0]
    logging.getLogger().handlers.clear()


def test_resize_pos_embed__wrong_grid_says_what():
    with pytest.raises(PositionError, match='4x5 grid.*img_size'):
        resize_pos_embed(torch.zeros(1, 17, 4), (4, 5), (6, 6))
    with pytest.raises(ValueError, match='mode'):
        resize_pos_embed(torch.zeros(1, 17, 4), (4, 4), (6, 6), mode='area')
    with pytest.raises(PositionError, match='smaller than one'):
        resize_pos_embed(torch.zeros(1, 17, 4), (4, 4), (0, 6))


@pytest.mark.parametrize(
    'number, like, wanted',
    [
        (196, None, (14, 14)),
        (196, (32, 32), (14, 14)),
        (196, (7, 28), (7, 28)),
        (8, (4, 8), (2, 4)),
        (18, (6, 12), (3, 6)),
    ],
)
def test_infer_grid__cases(number, like, wanted):
    assert infer_grid(number, like) == wanted


@pytest.mark.parametrize('number, like', [(15, None), (15, (4, 4)), (0, None)])
def test_infer_grid__impossible(number, like):
    with pytest.raises(PositionError, match='pos_grid'):
        infer_grid(number, like)


@pytest.mark.parametrize('source_extra', [0, 1, 2])
@pytest.mark.parametrize('extra', [0, 1])
def test_fit_pos_embed__extra_tokens(source_extra, extra):
    loaded = torch.randn(1, source_extra + 9, 4)
    current = torch.randn(1, extra + 25, 4)
    got = fit_pos_embed(loaded, current, (5, 5), extra)
    wanted = resize_pos_embed(
        loaded[:, source_extra:], (3, 3), (5, 5), num_extra_tokens=0
    )
    assert got.shape == current.shape
    torch.testing.assert_close(got[:, extra:], wanted)
    if extra and source_extra:
        assert torch.equal(got[:, 0], loaded[:, 0])
    elif extra:
        assert torch.equal(got[:, 0], current[:, 0])


def test_fit_pos_embed__source_grid_of_equal_count():
    loaded, current = torch.randn(1, 17, 4), torch.zeros(1, 17, 4)
    assert fit_pos_embed(loaded, current, (2, 8)) is loaded
    got = fit_pos_embed(loaded, current, (2, 8), src=(4, 4))
    torch.testing.assert_close(got, resize_pos_embed(loaded, (4, 4), (2, 8)))
    with pytest.raises(PositionError, match='3x3'):
        fit_pos_embed(loaded, current, (2, 8), src=(3, 3))


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
@pytest.mark.parametrize(
    'src, dst', [((7, 7), (12, 12)), ((7, 7), (4, 4)), ((3, 5), (6, 4))]
)
def test_resize_rel_pos_table__plain_loop(mode, src, dst):
    sides = [tuple(2 * w - 1 for w in window) for window in (src, dst)]
    table = torch.randn(sides[0][0] * sides[0][1], 3)
    got = resize_rel_pos_table(table, src, dst, mode)
    grid = table.reshape(*sides[0], 3).double().numpy()
    wanted = _reference(grid, sides[1], mode, 'size').reshape(-1, 3)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def test_resize_rel_pos_table__half_and_errors():
    table = torch.randn(169, 2).half()
    assert resize_rel_pos_table(table, (7, 7), (7, 7)) is table
    got = resize_rel_pos_table(table, (7, 7), (12, 12))
    assert got.dtype == torch.float16 and got.shape == (529, 2)
    with pytest.raises(PositionError, match='7x8'):
        resize_rel_pos_table(table, (7, 8), (12, 12))


def test_infer_window__square_only():
    assert [infer_window(n) for n in (1, 9, 169, 529)] == [1, 2, 7, 12]
    for number in (4, 168):
        with pytest.raises(PositionError):
            infer_window(number)
