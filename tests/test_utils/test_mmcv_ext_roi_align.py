"""RoIAlign against plain loops, through mmcv.ops."""

import importlib
import itertools
import math

import pytest
import torch

from mmdense.utils.mmcv_ext import install
from mmdense.utils.mmcv_ext import roi_align as stand_in

COMPILED = not install()
ops = importlib.import_module('mmcv.ops')

# Inside, across each border, wholly outside, thinner than a pixel, empty.
ROIS = [
    [0, 4.0, 6.0, 30.0, 22.0],
    [1, -9.0, -7.0, 12.0, 14.0],
    [1, 21.0, 17.0, 50.0, 44.0],
    [0, 90.0, 90.0, 99.0, 99.0],
    [0, 10.2, 11.1, 10.9, 19.5],
    [1, 8.0, 8.0, 8.0, 8.0],
]


def bilinear(feature, y, x):
    """Value of (C, H, W) at a point; zero further than a pixel outside."""
    height, width = feature.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return feature.new_zeros(feature.shape[0])
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    y0, x0 = min(int(y), height - 1), min(int(x), width - 1)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    dy, dx = y - y0, x - x0
    return (
        feature[:, y0, x0] * (1 - dy) * (1 - dx)
        + feature[:, y0, x1] * (1 - dy) * dx
        + feature[:, y1, x0] * dy * (1 - dx)
        + feature[:, y1, x1] * dy * dx
    )


def reference(feature, rois, size, scale, ratio, aligned):
    """RoIAlign as loops over regions, bins and samples, in float64."""
    shift = 0.5 if aligned else 0.0
    rows = []
    for index, *corners in rois:
        x1, y1, x2, y2 = (c * scale - shift for c in corners)
        w, h = x2 - x1, y2 - y1
        if not aligned:
            w, h = max(w, 1.0), max(h, 1.0)
        bin_h, bin_w = h / size[0], w / size[1]
        n_y = ratio if ratio > 0 else math.ceil(bin_h)
        n_x = ratio if ratio > 0 else math.ceil(bin_w)
        for i, j in itertools.product(range(size[0]), range(size[1])):
            total = feature.new_zeros(feature.shape[1])
            for a, b in itertools.product(range(n_y), range(n_x)):
                y = y1 + (i + (a + 0.5) / n_y) * bin_h
                x = x1 + (j + (b + 0.5) / n_x) * bin_w
                total = total + bilinear(feature[int(index)], y, x)
            rows.append(total / max(n_y * n_x, 1))
    pooled = torch.stack(rows).view(len(rois), *size, -1)
    return pooled.permute(0, 3, 1, 2)


def features(dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 9, 11, generator=g, dtype=torch.float64)
    return x.to(dtype)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 1, 2])
@pytest.mark.parametrize('scale', [0.25, 0.375, 1.0])
@pytest.mark.parametrize('size', [(2, 3)])
def test_roi_align__value_and_gradient(aligned, ratio, scale, size):
    x = features().requires_grad_()
    ref_x = features().requires_grad_()
    pool = ops.RoIAlign(size, scale, ratio, 'avg', aligned)
    out = pool(x, torch.tensor(ROIS, dtype=torch.float64))
    expected = reference(ref_x, ROIS, size, scale, ratio, aligned)
    torch.testing.assert_close(out, expected)
    assert expected.abs().max() > 0.1
    seed = torch.randn(
        out.shape, generator=torch.Generator().manual_seed(1)
    ).double()
    # A gradient that is not contiguous, as a permuted head produces.
    seed = seed.transpose(2, 3).contiguous().transpose(2, 3)
    out.backward(seed)
    expected.backward(seed)
    torch.testing.assert_close(x.grad, ref_x.grad)


def test_roi_align__finite_differences():
    pool = ops.RoIAlign((2, 2), 0.5, 0, 'avg', True)
    rois = torch.tensor(ROIS[:3], dtype=torch.float64)
    x = features()[:, :1, :4, :5].contiguous().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: pool(t, rois), (x,))


def test_roi_align__float32():
    pool = ops.RoIAlign((3, 2), 0.25, 2)
    rois = torch.tensor(ROIS)
    out = pool(features(torch.float32), rois)
    expected = reference(features(), ROIS, (3, 2), 0.25, 2, True)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)


def test_roi_align__no_regions():
    x = features(torch.float32).requires_grad_()
    out = ops.RoIAlign((2, 2), 1.0)(x, torch.zeros(0, 5))
    assert out.shape == (0, 3, 2, 2)
    out.sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))


def run_stand_in(x, rois, scale=0.25, ratio=0, aligned=True, mode=1):
    out = x.new_full((len(rois), x.shape[1], 2, 3), float('nan'))
    geometry = {
        'aligned_height': 2,
        'aligned_width': 3,
        'spatial_scale': scale,
        'sampling_ratio': ratio,
        'pool_mode': mode,
        'aligned': aligned,
    }
    empty = x.new_zeros(0)
    stand_in.roi_align_forward(x, rois, out, empty, empty, **geometry)
    grad_input = torch.zeros_like(x)
    stand_in.roi_align_backward(
        torch.ones_like(out), rois, empty, empty, grad_input, **geometry
    )
    return out, grad_input


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_stand_in__half_types_compute_in_float32(dtype):
    x = features(dtype)
    rois = torch.tensor(ROIS)
    out, grad_input = run_stand_in(x, rois)
    full, full_grad = run_stand_in(x.float(), rois)
    assert out.dtype == grad_input.dtype == dtype
    assert torch.equal(out, full.to(dtype))
    assert torch.equal(grad_input, full_grad.to(dtype))


def test_stand_in__cpu_autocast():
    rois = torch.tensor(ROIS)
    with torch.autocast('cpu', torch.bfloat16):
        out, _ = run_stand_in(features(torch.float32), rois)
    full, _ = run_stand_in(features(torch.float32), rois)
    assert torch.equal(out, full)


def test_stand_in__backward_adds_to_the_buffer():
    x, rois = features(torch.float32), torch.tensor(ROIS)
    _, once = run_stand_in(x, rois)
    twice = once.clone()
    empty = x.new_zeros(0)
    stand_in.roi_align_backward(
        torch.ones(len(ROIS), 3, 2, 3),
        rois,
        empty,
        empty,
        twice,
        2,
        3,
        0.25,
        0,
        1,
        True,
    )
    torch.testing.assert_close(twice, 2 * once)


def test_stand_in__max_pooling_says_what_to_do():
    with pytest.raises(NotImplementedError, match="pool_mode='avg'"):
        run_stand_in(features(), torch.tensor(ROIS).double(), mode=0)


@pytest.mark.parametrize('index', [-1.0, 2.0, float('nan')])
def test_stand_in__batch_index_out_of_range(index):
    rois = torch.tensor([[0.0, 0, 0, 4, 4], [index, 0, 0, 4, 4]])
    with pytest.raises(ValueError, match='index the batch, 0 to 1'):
        run_stand_in(features(torch.float32), rois)


@pytest.mark.skipif(not COMPILED, reason='needs the compiled mmcv')
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_stand_in__equals_compiled(aligned, ratio):
    x, rois = features(torch.float32), torch.tensor(ROIS)
    out, grad_input = run_stand_in(x, rois, 0.25, ratio, aligned)
    leaf = x.clone().requires_grad_()
    expected = ops.RoIAlign((2, 3), 0.25, ratio, 'avg', aligned)(leaf, rois)
    expected.sum().backward()
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(grad_input, leaf.grad)
