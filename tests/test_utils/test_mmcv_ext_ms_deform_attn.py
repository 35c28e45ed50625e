"""Multi-scale deformable attention against plain loops."""

import importlib
import itertools
import math

import pytest
import torch

from mmdense.utils.mmcv_ext import install
from mmdense.utils.mmcv_ext import ms_deform_attn as stand_in

install()
ops = importlib.import_module('mmcv.ops')
module = importlib.import_module('mmcv.ops.multi_scale_deform_attn')

SHAPES = [(3, 4), (2, 2), (1, 3)]


def reference(value, shapes, locations, weights):
    """Loops over batch, queries, heads, levels, points and corners."""
    batch, _, heads, channels = value.shape
    _, queries, _, levels, points, _ = locations.shape
    rows = []
    for b, q, head in itertools.product(
        range(batch), range(queries), range(heads)
    ):
        total = value.new_zeros(channels)
        start = 0
        for level, (height, width) in enumerate(shapes):
            for p in range(points):
                x, y = locations[b, q, head, level, p]
                # Pixel i covers [i, i + 1): its centre is at i + 1/2.
                x, y = x * width - 0.5, y * height - 0.5
                x0, y0 = math.floor(x.item()), math.floor(y.item())
                for yi, xi in itertools.product((y0, y0 + 1), (x0, x0 + 1)):
                    if 0 <= yi < height and 0 <= xi < width:
                        corner = (1 - (y - yi).abs()) * (1 - (x - xi).abs())
                        pixel = value[b, start + yi * width + xi, head]
                        share = weights[b, q, head, level, p]
                        total = total + share * corner * pixel
            start += height * width
        rows.append(total)
    return torch.stack(rows).view(batch, queries, heads * channels)


def inputs(dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    positions = sum(h * w for h, w in SHAPES)
    value = torch.randn(2, positions, 2, 3, generator=g).double()
    # From -0.2 to 1.2: some samples lie across the border or outside.
    locations = torch.rand(2, 4, 2, 3, 2, 2, generator=g).double()
    locations = locations * 1.4 - 0.2
    weights = torch.rand(2, 4, 2, 3, 2, generator=g).double()
    return [t.to(dtype) for t in (value, locations, weights)]


def level_tensors():
    shapes = torch.tensor(SHAPES)
    areas = shapes.prod(1)
    return shapes, areas.cumsum(0) - areas


def apply(value, locations, weights):
    """The stand-in inside mmcv's autograd function."""
    shapes, starts = level_tensors()
    return module.MultiScaleDeformableAttnFunction.apply(
        value, shapes, starts, locations, weights, 64
    )


@pytest.fixture(autouse=True)
def patched(monkeypatch):
    """mmcv's function on the stand-in: compiled mmcv has no CPU kernel."""
    monkeypatch.setattr(module, 'ext_module', stand_in)


def test_function__value_and_gradients():
    mine = [t.requires_grad_() for t in inputs()]
    theirs = [t.requires_grad_() for t in inputs()]
    out = apply(*mine)
    expected = reference(theirs[0], SHAPES, theirs[1], theirs[2])
    torch.testing.assert_close(out, expected)
    g = torch.Generator().manual_seed(1)
    seed = torch.randn(out.shape, generator=g).double()
    out.backward(seed)
    expected.backward(seed)
    for a, b in zip(mine, theirs):
        torch.testing.assert_close(a.grad, b.grad)
        assert b.grad.abs().max() > 0.01


def test_function__finite_differences():
    leaves = [t[:1].requires_grad_() for t in inputs()]
    assert torch.autograd.gradcheck(apply, leaves)


def test_stand_in__equals_mmcv_pytorch_form():
    value, locations, weights = inputs(torch.float32)
    shapes, starts = level_tensors()
    out = stand_in.ms_deform_attn_forward(
        value, shapes, starts, locations, weights, im2col_step=64
    )
    expected = module.multi_scale_deformable_attn_pytorch(
        value, shapes, locations, weights
    )
    torch.testing.assert_close(out, expected)
    assert out.is_contiguous()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_stand_in__half_types(dtype):
    value, locations, weights = inputs(dtype)
    shapes, starts = level_tensors()
    out = stand_in.ms_deform_attn_forward(
        value, shapes, starts, locations, weights, im2col_step=64
    )
    expected = reference(
        value.double(), SHAPES, locations.double(), weights.double()
    )
    assert out.dtype == dtype
    tolerance = torch.finfo(dtype).eps
    torch.testing.assert_close(
        out.double(), expected, rtol=tolerance, atol=1e-4
    )
    buffers = [torch.zeros_like(t) for t in (value, locations, weights)]
    stand_in.ms_deform_attn_backward(
        value,
        shapes,
        starts,
        locations,
        weights,
        torch.ones_like(out),
        *buffers,
        im2col_step=64,
    )
    assert all(b.isfinite().all() and b.abs().sum() > 0 for b in buffers)


def test_stand_in__levels_that_do_not_fit():
    value, locations, weights = inputs()
    shapes, starts = level_tensors()
    with pytest.raises(ValueError, match='hold 19 positions, value has 18'):
        stand_in.ms_deform_attn_forward(
            value[:, 1:], shapes, starts, locations, weights, 64
        )


def by_sizes(value, locations, weights):
    return stand_in.deformable_attention(value, SHAPES, locations, weights)


def through_the_kernel(value, locations, weights):
    """The way of a GPU with compiled operators, these on the stand-in."""
    return stand_in._compiled_kernel(value, tuple(SHAPES), locations, weights)


@pytest.mark.parametrize('form', [by_sizes, through_the_kernel])
def test_deformable_attention__value_and_gradients(form):
    mine = [t.requires_grad_() for t in inputs()]
    theirs = [t.requires_grad_() for t in inputs()]
    out = form(*mine)
    expected = reference(theirs[0], SHAPES, theirs[1], theirs[2])
    torch.testing.assert_close(out, expected)
    g = torch.Generator().manual_seed(1)
    seed = torch.randn(out.shape, generator=g).double()
    out.backward(seed)
    expected.backward(seed)
    for a, b in zip(mine, theirs):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_deformable_attention__float32_in_half_types(dtype):
    value, locations, weights = inputs(torch.float32)
    value = value.to(dtype)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = by_sizes(value, locations, weights)
    assert out.dtype == torch.float32
    expected = reference(value.float(), SHAPES, locations, weights)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize('batch', [1, 64, 65, 96])
def test_deformable_attention__pieces_divide_the_batch(batch, monkeypatch):
    class Kernel:
        @staticmethod
        def apply(value, shapes, starts, locations, weights, step):
            assert len(value) % step == 0 and step <= 64
            assert shapes.tolist() == [[1, 2], [3, 1]]
            assert starts.tolist() == [0, 2]
            return step

    monkeypatch.setattr(module, 'MultiScaleDeformableAttnFunction', Kernel)
    step = stand_in._compiled_kernel(
        torch.zeros(batch, 5, 1, 1),
        ((1, 2), (3, 1)),
        torch.zeros(1),
        torch.zeros(1),
    )
    assert step == {1: 1, 64: 64, 65: 13, 96: 48}[batch]


def test_deformable_attention__compiled_unless_the_stand_in_serves():
    assert stand_in._is_compiled() != install()


def test_deformable_attention__levels_that_do_not_fit():
    value, locations, weights = inputs()
    with pytest.raises(ValueError, match='hold 19 positions, value has 18'):
        by_sizes(value[:, 1:], locations, weights)


def test_module__equals_reference_and_trains():
    torch.manual_seed(0)
    attention = ops.MultiScaleDeformableAttention(
        embed_dims=8, num_heads=2, num_levels=3, num_points=2, dropout=0.0
    ).double()
    torch.nn.init.normal_(attention.attention_weights.weight)
    torch.nn.init.normal_(attention.sampling_offsets.weight, std=0.1)
    shapes, starts = level_tensors()
    query, value = torch.randn(5, 1, 8), torch.randn(19, 1, 8)
    query, value = query.double(), value.double()
    points = torch.rand(1, 5, 3, 2).double()
    out = attention(
        query,
        value=value,
        reference_points=points,
        spatial_shapes=shapes,
        level_start_index=starts,
    )
    rows = query.transpose(0, 1)
    offsets = attention.sampling_offsets(rows).view(1, 5, 2, 3, 2, 2)
    locations = (
        points[:, :, None, :, None]
        + offsets / shapes.flip(1)[None, None, None, :, None]
    )
    weights = attention.attention_weights(rows).view(1, 5, 2, 6).softmax(-1)
    expected = reference(
        attention.value_proj(value.transpose(0, 1)).view(1, 19, 2, 4),
        SHAPES,
        locations,
        weights.view(1, 5, 2, 3, 2),
    )
    expected = attention.output_proj(expected).transpose(0, 1) + query
    torch.testing.assert_close(out, expected)
    out.sum().backward()
    assert attention.sampling_offsets.weight.grad.abs().sum() > 0
