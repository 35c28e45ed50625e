import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmdense.models.losses import (
    BerHuLoss,
    DepthGradientLoss,
    SILogLoss,
    SSILoss,
)
from mmdense.models.losses.ssi_loss import normalize_robustly
from mmdense.registry import MODELS
from mmdense.testing.golden_cases.depth import depth_losses

GOLDEN = Path(__file__).parents[2] / 'data' / 'golden'

LOSSES = [
    dict(type='mmdense.BerHuLoss'),
    dict(type='mmdense.DepthGradientLoss', mode='edge_aware'),
    dict(type='mmdense.DepthGradientLoss', mode='match_gt'),
    dict(type='mmdense.DepthGradientLoss', mode='multi_scale'),
    dict(type='mmdense.SILogLoss', variant='toolbox'),
    dict(type='mmdense.SILogLoss', variant='eigen'),
    dict(type='mmdense.SILogLoss', variant='eigen_squared'),
    dict(type='mmdense.SILogLoss', variant='bts'),
    dict(type='mmdense.SSILoss', variant='trimmed', target='inverse'),
    dict(type='mmdense.SSILoss', variant='least_squares', target='inverse'),
]
IDS = [
    'berhu',
    'edge_aware',
    'match_gt',
    'multi_scale',
    'toolbox',
    'eigen',
    'eigen_squared',
    'bts',
    'ssi_trimmed',
    'ssi_least_squares',
]


def make_batch(seed=0, b=2, h=5, w=7, hole=0.3):
    g = torch.Generator().manual_seed(seed)
    pred = 0.5 + 5 * torch.rand(b, 1, h, w, generator=g)
    target = 0.5 + 5 * torch.rand(b, 1, h, w, generator=g)
    target[torch.rand(b, 1, h, w, generator=g) < hole] = 0
    image = torch.rand(b, 3, h, w, generator=g)
    return pred, target, image


def loop_berhu(pred, target, factor):
    pairs = [
        (p, t)
        for p, t in zip(pred.ravel().tolist(), target.ravel().tolist())
        if t > 0
    ]
    c = factor * max(abs(p - t) for p, t in pairs)
    total = 0.0
    for p, t in pairs:
        r = abs(p - t)
        total += r if r <= c else (r * r + c * c) / (2 * c)
    return total / len(pairs)


def loop_edge_aware(pred, image):
    pred, grey = pred[:, 0].numpy(), image.mean(1).numpy()
    steps = {'x': [], 'y': []}
    b, h, w = pred.shape
    for i in range(b):
        for y in range(h):
            for x in range(w):
                for axis, (yy, xx) in (('x', (y, x + 1)), ('y', (y + 1, x))):
                    if yy < h and xx < w:
                        edge = abs(grey[i, yy, xx] - grey[i, y, x])
                        slope = pred[i, yy, xx] - pred[i, y, x]
                        steps[axis].append(np.exp(-edge) * slope**2)
    return np.mean(steps['x']) + np.mean(steps['y'])


def loop_match_gt(pred, target):
    pred, target = pred[:, 0].numpy(), target[:, 0].numpy()
    steps = {'x': [], 'y': []}
    b, h, w = pred.shape
    for i in range(b):
        for y in range(h):
            for x in range(w):
                for axis, (yy, xx) in (('x', (y, x + 1)), ('y', (y + 1, x))):
                    if yy >= h or xx >= w:
                        continue
                    if target[i, y, x] > 0 and target[i, yy, xx] > 0:
                        dp = pred[i, yy, xx] - pred[i, y, x]
                        dt = target[i, yy, xx] - target[i, y, x]
                        steps[axis].append((dp - dt) ** 2)
    return np.mean(steps['x']) + np.mean(steps['y'])


def loop_multi_scale(pred, target, scales):
    images = []
    for p, t in zip(pred[:, 0].numpy(), target[:, 0].numpy()):
        height, width = p.shape
        total = 0.0
        for k in range(scales):
            n = 2**k
            for y in range(0, height, n):
                for x in range(0, width, n):
                    for yy, xx in ((y, x + n), (y + n, x)):
                        if yy >= height or xx >= width:
                            continue
                        if t[y, x] > 0 and t[yy, xx] > 0:
                            there = np.log(p[yy, xx] / t[yy, xx])
                            total += abs(there - np.log(p[y, x] / t[y, x]))
        images.append(total / max((t > 0).sum(), 1))
    return np.mean(images)


def loop_silog(pred, target, focus, eps, ddof, per_image):
    groups = []
    for p, t in zip(pred.numpy(), target.numpy()):
        groups.append(
            [np.log(a + eps) - np.log(b + eps)
             for a, b in zip(p.ravel(), t.ravel()) if b > 0]
        )  # fmt: skip
    if not per_image:
        groups = [sum(groups, [])]
    values = [
        np.sqrt(np.var(g, ddof=ddof) + (1 - focus) * np.mean(g) ** 2)
        for g in groups
    ]
    return np.mean(values)


@pytest.mark.parametrize('seed', [0, 1, 2])
@pytest.mark.parametrize('factor', [0.1, 0.2, 0.5])
def test_berhu__equals_loop(seed, factor):
    pred, target, _ = make_batch(seed)
    got = BerHuLoss(factor=factor, loss_weight=2.0)(pred, target)
    assert got.item() == pytest.approx(
        2 * loop_berhu(pred, target, factor), rel=1e-5
    )


@pytest.mark.parametrize('seed', [0, 1, 2])
@pytest.mark.parametrize('shape', [(2, 5, 7), (1, 2, 3), (3, 8, 4)])
def test_depth_gradient__equals_loop(seed, shape):
    b, h, w = shape
    pred, target, image = make_batch(seed, b, h, w, hole=0.1)
    smooth = DepthGradientLoss('edge_aware', loss_weight=1.0)
    match = DepthGradientLoss('match_gt', loss_weight=1.0)
    assert smooth(pred, target, image=image).item() == pytest.approx(
        loop_edge_aware(pred, image), rel=1e-5
    )
    assert match(pred, target).item() == pytest.approx(
        loop_match_gt(pred, target), rel=1e-5
    )


@pytest.mark.parametrize('scales', [1, 2, 4])
@pytest.mark.parametrize('hole', [0.0, 0.3, 0.8])
@pytest.mark.parametrize('shape', [(2, 17, 22), (1, 2, 3), (3, 9, 1)])
@pytest.mark.parametrize('channel', [True, False])
def test_multi_scale_gradient__equals_loop(scales, hole, shape, channel):
    pred, target, _ = make_batch(1, *shape, hole=hole)
    target[-1] = 0 if shape[0] > 1 else target[-1]
    loss = DepthGradientLoss('multi_scale', loss_weight=0.5, scales=scales)
    expected = 0.5 * loop_multi_scale(pred, target, scales)
    given = (pred, target) if channel else (pred[:, 0], target[:, 0])
    assert loss(*given).item() == pytest.approx(expected, rel=1e-4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert loss(*given).item() == pytest.approx(expected, rel=1e-4)


def test_multi_scale_gradient__blind_to_scale_but_not_to_edges():
    pred, target, _ = make_batch(0, 2, 17, 22, hole=0.2)
    loss = DepthGradientLoss('multi_scale')
    assert loss(3 * target, target).item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(
        loss(3 * pred, target), loss(pred, 7 * target), rtol=1e-4, atol=0
    )
    assert loss(pred, target) > 0.1


def test_multi_scale_gradient__is_the_term_of_ssi_loss():
    pred, target, _ = make_batch(0, 2, 17, 22, hole=0.2)
    mask = target > 0
    loss = SSILoss('trimmed', target='inverse')
    data, gradient = loss.terms(pred, target, mask)
    flat = [
        normalize_robustly(x.flatten(1), mask.flatten(1), 1e-6)
        for x in (pred, target)
    ]
    # depths whose logarithms are those maps
    pred, target = (x.reshape(pred.shape).exp() for x in flat)
    target = torch.where(mask, target, torch.zeros_like(target))
    same = DepthGradientLoss('multi_scale', loss_weight=1.0)(pred, target)
    torch.testing.assert_close(same, gradient, rtol=1e-4, atol=0)


@pytest.mark.parametrize('seed', [0, 1])
@pytest.mark.parametrize('focus', [0.0, 0.5, 0.85, 1.0])
@pytest.mark.parametrize(
    'variant,eps,ddof,per_image',
    [('toolbox', 1e-3, 1, False), ('eigen', 1e-6, 0, True)],
)
def test_silog__equals_loop(seed, focus, variant, eps, ddof, per_image):
    pred, target, _ = make_batch(seed)
    got = SILogLoss(variant, variance_focus=focus)(pred, target)
    expected = loop_silog(pred, target, focus, eps, ddof, per_image)
    assert got.item() == pytest.approx(expected, rel=1e-5)


def test_silog__eigen_equals_mean_square_form():
    pred, target, _ = make_batch(3, b=1)
    g = (pred.log() - target.log())[target > 0].double()
    expected = (g.square().mean() - 0.5 * g.mean() ** 2).sqrt().item()
    got = SILogLoss('eigen')(pred, target).item()
    assert got == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('focus', [0.0, 0.5, 1.0])
def test_silog__eigen_squared_is_the_formula_per_image(focus):
    pred, target, _ = make_batch(4, b=3)
    target[1] = 0
    values = []
    for p, t in zip(pred.double(), target.double()):
        g = (p.log() - t.log())[t > 0]
        if len(g):
            values.append(g.square().mean() - focus * g.mean() ** 2)
    got = SILogLoss('eigen_squared', variance_focus=focus)(pred, target)
    assert len(values) == 2
    assert got.item() == pytest.approx(np.mean(values), rel=1e-4)


def test_silog__bts_is_the_biased_toolbox():
    pred, target, _ = make_batch(5)
    expected = loop_silog(pred, target, 0.85, 1e-6, 0, False)
    assert SILogLoss('bts')(pred, target).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_silog__warm_up_counts_training_calls():
    pred, target, _ = make_batch()
    loss = SILogLoss(warm_up_iters=2)
    plain = SILogLoss()(pred, target)
    first, second, third = (loss(pred, target) for _ in range(3))
    assert first == second
    assert first < third
    assert third == plain
    assert loss.state_dict()['calls'] == 3
    assert loss.eval()(pred, target) == plain
    assert loss.calls == 3


@pytest.mark.parametrize('cfg', LOSSES, ids=IDS)
def test_depth_losses__bf16_autocast_equals_fp32(cfg):
    pred, target, image = make_batch()
    loss = MODELS.build(dict(cfg))
    expected = loss(pred, target, image=image)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = loss(pred, target, image=image)
        half = loss(pred.bfloat16(), target, image=image)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, rtol=0.05, atol=0.01)


class SyncingOps(TorchDispatchMode):
    """Collects operations that would make the host wait for the device."""

    NAMES = ('_local_scalar_dense', 'nonzero', 'masked_select', 'index.Tensor')

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in self.NAMES):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('cfg', LOSSES, ids=IDS)
def test_depth_losses__no_host_device_sync(cfg):
    pred, target, image = make_batch()
    pred.requires_grad_()
    loss = MODELS.build(dict(cfg))
    with SyncingOps() as ops:
        loss(pred, target, image=image).backward()
    assert ops.seen == []
    with SyncingOps() as ops:
        _ = target[target > 0].mean().item()
    assert len(ops.seen) >= 2


@pytest.mark.parametrize('cfg', LOSSES, ids=IDS)
@pytest.mark.parametrize('filler', [0.0, float('nan'), float('inf')])
def test_depth_losses__no_valid_pixel_gives_zero(cfg, filler):
    pred, target, image = make_batch()
    pred.requires_grad_()
    loss = MODELS.build(dict(cfg))(
        pred, torch.full_like(target, filler), image=image
    )
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(pred.grad, torch.zeros_like(pred))


@pytest.mark.parametrize('cfg', LOSSES, ids=IDS)
def test_depth_losses__perfect_prediction_has_finite_gradient(cfg):
    _, target, image = make_batch(hole=0.0)
    pred = target.clone().requires_grad_()
    loss = MODELS.build(dict(cfg))(pred, target, image=image)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(pred.grad).all()
    if cfg.get('mode') != 'edge_aware':
        assert loss.item() == pytest.approx(0, abs=1e-6)


EXTREMES = {
    'zero': lambda x: x * 0,
    'negative': lambda x: -x,
    'tiny': lambda x: x * 1e-7,
    'large': lambda x: x * 1e4,
    'fp16_max': lambda x: x * 0 + 65504.0,
    'one_infinite': lambda x: torch.where(x > x.max() - 1e-6, x / 0, x),
    'infinite': lambda x: x / 0,
    'minus_infinite': lambda x: -x / 0,
}


@pytest.mark.parametrize('cfg', LOSSES, ids=IDS)
@pytest.mark.parametrize('extreme', list(EXTREMES))
@pytest.mark.parametrize('valid', ['all', 'some', 'one', 'one_image', 'none'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_depth_losses__finite_for_extreme_predictions(
    cfg, extreme, valid, dtype
):
    pred, target, image = make_batch(hole=0.3 if valid == 'some' else 0.0)
    if valid == 'one':
        target.flatten()[1:] = 0
    elif valid in ('one_image', 'none'):
        target[int(valid == 'one_image') :] = 0
    pred = EXTREMES[extreme](pred).to(dtype).requires_grad_()
    loss = MODELS.build(dict(cfg))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(pred, target, image=image)
    assert value.dtype == torch.float32 and torch.isfinite(value)
    value.backward()
    assert pred.grad.dtype == dtype
    assert torch.isfinite(pred.grad).all()
    if valid == 'none':
        assert value == 0 and not pred.grad.any()


@pytest.mark.parametrize('cfg', LOSSES, ids=IDS)
@pytest.mark.parametrize('factor', [1e-30, 1e-4, 1e4, 1e30])
def test_depth_losses__finite_for_extreme_targets(cfg, factor):
    pred, target, image = make_batch()
    pred.requires_grad_()
    value = MODELS.build(dict(cfg))(pred, target * factor, image=image)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(pred.grad).all()


@pytest.mark.parametrize('cfg', LOSSES, ids=IDS)
def test_depth_losses__finite_where_a_mask_takes_what_is_not_depth(cfg):
    pred, target, image = make_batch()
    target[:, :, 0] *= -1
    pred.requires_grad_()
    every = torch.ones_like(target)
    value = MODELS.build(dict(cfg))(pred, target, mask=every, image=image)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(pred.grad).all()


@pytest.mark.parametrize('cfg', LOSSES, ids=IDS)
def test_depth_losses__nan_prediction_is_not_hidden(cfg):
    pred, target, image = make_batch()
    pred[0, 0, 0, 0] = float('nan')
    target[0, 0, 0, 0] = 1.0
    loss = MODELS.build(dict(cfg))
    assert loss(pred, target, image=image).isnan()
    if cfg.get('mode') == 'edge_aware':  # no mask
        return
    target[0, 0, 0, 0] = 0.0
    pred.requires_grad_()
    value = loss(pred, target, image=image)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(pred.grad).all()


@pytest.mark.parametrize('value', [2e6, -2e6, float('inf')])
def test_depth_losses__prediction_out_of_bounds_comes_back(value):
    pred = torch.full((1, 1, 2, 2), value).requires_grad_()
    BerHuLoss()(pred, torch.ones(1, 1, 2, 2)).backward()
    assert (pred.grad.sign() == (1.0 if value > 0 else -1.0)).all()


@pytest.mark.parametrize('cfg', LOSSES, ids=IDS)
def test_depth_losses__nan_target_counts_as_invalid(cfg):
    pred, target, image = make_batch()
    loss = MODELS.build(dict(cfg))
    expected = loss(pred, target, image=image)
    broken = target.clone()
    broken[target == 0] = float('nan')
    pred.requires_grad_()
    got = loss(pred, broken, mask=torch.ones_like(pred), image=image)
    got.backward()
    torch.testing.assert_close(got, expected)
    assert torch.isfinite(pred.grad).all()


@pytest.mark.parametrize('cfg', LOSSES, ids=IDS)
def test_depth_losses__gradient_is_numeric_derivative(cfg):
    pred, target, image = make_batch(b=1, h=3, w=4)
    if cfg['type'].endswith('BerHuLoss'):
        # c is a constant for the gradient: pin it by a pixel far off
        target[0, 0, 0, 0] = 20.0
    pred = pred.double().requires_grad_()
    loss = MODELS.build(dict(cfg))
    loss(pred, target.double(), image=image.double()).backward()
    step = 1e-6
    for index in [(0, 0, 1, 1), (0, 0, 2, 3), (0, 0, 1, 2)]:
        values = []
        for sign in (1, -1):
            moved = pred.detach().clone()
            moved[index] += sign * step
            values.append(loss(moved, target.double(), image=image.double()))
        slope = (values[0] - values[1]).item() / (2 * step)
        assert pred.grad[index].item() == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize(
    'call,match',
    [
        (lambda p, t, i: BerHuLoss()(p[:, 0], t), 'differ'),
        (lambda p, t, i: BerHuLoss()(p, t, mask=t[..., 1:] > 0), 'mask'),
        (lambda p, t, i: DepthGradientLoss()(p, t), 'needs the image'),
        (
            lambda p, t, i: DepthGradientLoss()(p, t, image=i[..., 1:]),
            'batch, height or width',
        ),
        (lambda p, t, i: BerHuLoss(factor=0.0), 'factor'),
        (lambda p, t, i: BerHuLoss(loss_name='berhu'), 'loss_'),
        (lambda p, t, i: DepthGradientLoss('l1'), 'edge_aware'),
        (lambda p, t, i: DepthGradientLoss(scales=0), 'scales=0'),
        (lambda p, t, i: SILogLoss('mmseg'), 'toolbox'),
        (lambda p, t, i: SILogLoss(variance_focus=2.0), r'\[0, 1\]'),
        (lambda p, t, i: SILogLoss(eps=0.0), 'eps'),
    ],
)
def test_depth_losses__bad_input_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call(*make_batch())


def test_depth_losses__golden():
    index = json.loads((GOLDEN / 'index.json').read_text())
    (case,) = [c for c in index['cases'] if c['name'] == 'depth_losses']
    arrays = dict(np.load(GOLDEN / case['file']))
    seen = set()
    for name, got, expected, rtol, atol in depth_losses(case, arrays):
        assert got.shape == expected.shape
        np.testing.assert_allclose(
            got, expected, rtol=rtol, atol=atol, err_msg=name
        )
        seen.add(name)
    assert seen == {n for n in arrays if not n.startswith('in/')}
    assert len(seen) == 16
