import numpy as np
import pytest
import torch

from mmdense.models.losses import SSILoss
from mmdense.models.losses.ssi_loss import (
    least_squares_fit,
    masked_median,
    normalize_robustly,
)
from mmdense.registry import MODELS


def make_batch(seed=0, b=3, h=17, w=22, hole=0.3):
    g = torch.Generator().manual_seed(seed)
    pred = torch.rand(b, 1, h, w, generator=g) * 3
    target = 0.2 + torch.rand(b, 1, h, w, generator=g)
    target[torch.rand(b, 1, h, w, generator=g) < hole] = 0
    return pred, target


def loop_gradients(residual, mask, scales):
    """Sum of each scale and pixels of each scale, by loops."""
    sums, counts = [], []
    for k in range(scales):
        r, m = residual[:: 2**k, :: 2**k], mask[:: 2**k, :: 2**k]
        total = 0.0
        for y in range(r.shape[0]):
            for x in range(r.shape[1]):
                for yy, xx in ((y, x + 1), (y + 1, x)):
                    if yy < r.shape[0] and xx < r.shape[1]:
                        if m[y, x] and m[yy, xx]:
                            total += abs(r[yy, xx] - r[y, x])
        sums.append(total)
        counts.append(m.sum())
    return sums, counts


def loop_ssi(pred, target, variant, normalizer, trim, alpha, scales):
    data, pixels, images = [], [], []
    steps = []
    for p, t in zip(pred[:, 0].double().numpy(), target[:, 0].numpy()):
        mask = t > 0
        p, t = p.astype(float), t.astype(float)
        m = mask.sum()
        if m < 2:
            data.append(0.0)
            pixels.append(0)
            steps.append(([0.0] * scales, [0] * scales))
            images.append(0.0)
            continue
        if variant == 'trimmed':
            rows = []
            for x in (p, t):
                x = x - np.median(x[mask])
                rows.append(x / np.abs(x[mask]).mean())
            residual = rows[0] - rows[1]
            kept = int(np.floor((1 - trim) * m))
            total = np.sort(np.abs(residual[mask]))[:kept].sum()
        else:
            a = np.stack([p[mask], np.ones(m)], 1)
            (s, shift), *_ = np.linalg.lstsq(a, t[mask], rcond=None)
            residual = s * p + shift - t
            total = (residual[mask] ** 2).sum()
        data.append(total)
        pixels.append(m)
        steps.append(loop_gradients(residual, mask, scales))
        images.append(total / (2 * m) + alpha * sum(steps[-1][0]) / m)
    if normalizer == 'image':
        return np.mean(images)
    result = sum(data) / (2 * max(sum(pixels), 1))
    for k in range(scales):
        count = max(sum(s[1][k] for s in steps), 1)
        result += alpha * sum(s[0][k] for s in steps) / count
    return result


@pytest.mark.parametrize('variant', ['trimmed', 'least_squares'])
@pytest.mark.parametrize('normalizer', ['image', 'batch', None])
@pytest.mark.parametrize(
    'trim,alpha,scales', [(0.2, 0.5, 4), (0.0, 0.0, 1), (0.55, 2.0, 2)]
)
@pytest.mark.parametrize('seed', [0, 1])
def test_ssi__equals_loop(variant, normalizer, trim, alpha, scales, seed):
    pred, target = make_batch(seed)
    target[2].flatten()[1:] = 0  # one pixel at most: nothing to fit
    loss = SSILoss(
        variant,
        trim=trim,
        alpha=alpha,
        scales=scales,
        target='inverse',
        normalizer=normalizer,
    )
    default = {'trimmed': 'image', 'least_squares': 'batch'}[variant]
    expected = loop_ssi(
        pred, target, variant, normalizer or default, trim, alpha, scales
    )
    assert loss(pred, target).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('variant', ['trimmed', 'least_squares'])
@pytest.mark.parametrize('scale,shift', [(2.0, 0.0), (1e-3, 5.0), (1e4, -7e3)])
def test_ssi__invariant_to_scale_and_shift(variant, scale, shift):
    pred, target = make_batch()
    mask = target > 0
    loss = SSILoss(variant, target='inverse')
    expected = loss(pred, target, mask)
    got = loss(scale * pred + shift, target, mask)
    torch.testing.assert_close(got, expected, rtol=2e-3, atol=0)
    if variant == 'trimmed':
        got = loss(pred, scale * target + shift, mask)
        torch.testing.assert_close(got, expected, rtol=2e-3, atol=0)
    affine = loss(scale * target + shift, target, mask)
    assert affine.item() < 2e-3 * expected.item()


def test_ssi__depth_is_inverted():
    pred, target = make_batch()
    depth = torch.where(target > 0, 1 / target, target)
    inverse = SSILoss(target='inverse')(pred, target)
    torch.testing.assert_close(SSILoss()(pred, depth), inverse)
    affine = torch.where(depth > 0, 3 / depth.clamp(min=1e-3) + 2, depth)
    assert SSILoss()(affine, depth).item() < 1e-4
    assert SSILoss()(-affine, depth).item() > 0.1


def test_ssi__largest_residuals_are_left_out():
    """A fifth of the pixels lies far off, and counts for nothing."""
    torch.manual_seed(0)
    target = torch.rand(1, 100) + 0.1
    far = torch.arange(100) % 5 == 0
    pred = torch.where(far, 1e3 + 1e3 * torch.rand(100), target)
    mask = torch.ones(1, 100, dtype=torch.bool)
    loss = SSILoss(alpha=0.0, trim=0.2, target='inverse')
    residual = loss._residual(pred, target, mask)
    assert set(residual.abs()[0].sort().indices[-20:].tolist()) == set(
        range(0, 100, 5)
    )
    got = loss(pred.view(1, 1, 10, 10), target.view(1, 1, 10, 10)).item()
    kept = residual[0][~far].abs().sum().item() / 200
    assert got == pytest.approx(kept, rel=1e-5)
    everything = SSILoss(alpha=0.0, trim=0.0, target='inverse')
    assert everything(pred[None], target[None]).item() > 2 * got


def test_ssi__constant_residual_has_no_gradient_term():
    _, target = make_batch()
    flat = torch.full_like(target, 0.3)
    loss = SSILoss('least_squares', target='inverse', scales=1)
    # a constant cannot be fitted: the residual is the target itself
    _, matching = loss.terms(flat, target, target > 0)
    assert matching.item() > 0.1
    level = torch.where(target > 0, torch.ones_like(target), target)
    data, matching = loss.terms(flat, level, level > 0)
    assert matching.item() == 0 and data.item() == pytest.approx(0.5)


@pytest.mark.parametrize('count', [0, 1, 2, 3, 4, 7, 8])
def test_masked_median__equals_numpy(count):
    g = torch.Generator().manual_seed(count)
    values = torch.randn(2, 8, generator=g)
    mask = torch.zeros(2, 8, dtype=torch.bool)
    for row in mask:
        row[torch.randperm(8, generator=g)[:count]] = True
    got = masked_median(values, mask)
    for row, keep, median in zip(values, mask, got):
        expected = np.median(row[keep].numpy()) if count else 0.0
        assert median.item() == pytest.approx(expected, abs=1e-7)


def test_normalize_robustly__constant_row_is_zero():
    values = torch.full((1, 5), 0.1)
    mask = torch.ones(1, 5, dtype=torch.bool)
    assert not normalize_robustly(values, mask, 1e-6).any()


@pytest.mark.parametrize('offset', [0.0, 1.0, 1e3])
def test_least_squares_fit__equals_numpy(offset):
    pred, target = (x.flatten(1) for x in make_batch())
    mask = target > 0
    pred = pred + offset
    scale, shift = least_squares_fit(pred, target, mask)
    for p, t, m, s, b in zip(pred, target, mask, scale, shift):
        p, t = p[m].double().numpy(), t[m].double().numpy()
        a = np.stack([p, np.ones_like(p)], 1)
        (s_, b_), *_ = np.linalg.lstsq(a, t, rcond=None)
        np.testing.assert_allclose(
            s.item() * p + b.item(), s_ * p + b_, atol=3e-3
        )
        assert s.item() == pytest.approx(s_, rel=0.02)


def test_least_squares_fit__not_unique_gives_zero():
    pred = torch.tensor([[0.1, 0.1, 0.1], [1.0, 2.0, 3.0], [1e4, 1e4, 1e4]])
    target = torch.rand(3, 3)
    mask = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 1, 1]]).bool()
    scale, shift = least_squares_fit(pred, target, mask)
    assert not scale.any() and not shift.any()


@pytest.mark.parametrize('variant', ['trimmed', 'least_squares'])
def test_ssi__image_without_two_pixels_adds_nothing(variant):
    pred, target = make_batch(b=2)
    target[1] = 0
    target[1, 0, 3, 3] = 0.5
    pred.requires_grad_()
    loss = SSILoss(variant, target='inverse')
    value = loss(pred, target)
    value.backward()
    alone = loss(pred[:1], target[:1])
    share = 0.5 if loss.normalizer == 'image' else 1.0
    torch.testing.assert_close(value, share * alone)
    assert not pred.grad[1].any() and pred.grad[0].any()


def test_ssi__alpha_zero_skips_the_gradient_term():
    pred, target = make_batch()
    plain = SSILoss(alpha=0.0)
    assert plain.terms(pred, target, target > 0)[1] is None
    data, _ = SSILoss().terms(pred, 1 / target.clamp(min=0.1), target > 0)
    assert plain(pred, target).item() < SSILoss()(pred, target).item()
    assert data.item() > 0


@pytest.mark.parametrize('size', [(1, 2), (3, 1), (5, 9)])
@pytest.mark.parametrize('variant', ['trimmed', 'least_squares'])
def test_ssi__small_maps(size, variant):
    pred = torch.rand(2, *size).requires_grad_()
    target = torch.rand(2, *size) + 0.1
    value = MODELS.build(dict(type='mmdense.SSILoss', variant=variant))(
        pred, target
    )
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(pred.grad).all()


@pytest.mark.parametrize('variant', ['trimmed', 'least_squares'])
def test_ssi__brings_a_prediction_to_the_inverse_depth(variant):
    torch.manual_seed(0)
    depth = torch.rand(2, 1, 8, 8) * 5 + 0.5
    pred = torch.rand(2, 1, 8, 8).requires_grad_()
    loss = SSILoss(variant)
    optimizer = torch.optim.Adam([pred], lr=0.05)
    start = loss(pred, depth).item()
    for _ in range(200):
        optimizer.zero_grad()
        value = loss(pred, depth)
        value.backward()
        optimizer.step()
    assert value.item() < 0.2 * start
    for p, d in zip(pred.detach().flatten(1), 1 / depth.flatten(1)):
        correlation = np.corrcoef(p.numpy(), d.numpy())[0, 1]
        if variant == 'least_squares':  # does not know the sign
            correlation = abs(correlation)
        assert correlation > 0.95


@pytest.mark.parametrize(
    'setting,match',
    [
        (dict(variant='l1'), 'trimmed'),
        (dict(target='disparity'), 'inverse'),
        (dict(normalizer='pixel'), 'batch'),
        (dict(trim=1.0), 'trim'),
        (dict(alpha=-1.0), 'alpha'),
        (dict(scales=0), 'scales'),
        (dict(loss_name='ssi'), 'loss_'),
    ],
)
def test_ssi__bad_options_are_named(setting, match):
    with pytest.raises(ValueError, match=match):
        SSILoss(**setting)
