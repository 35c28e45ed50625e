"""Deformable convolutions against plain loops, through mmcv.ops."""

import importlib
import itertools
import math

import pytest
import torch

from mmdense.utils.mmcv_ext import (
    deform_conv,
    install,
    modulated_deform_conv,
)

COMPILED = not install()
ops = importlib.import_module('mmcv.ops')

# in channels, out channels, kernel, stride, padding, dilation, groups,
# deformable groups
SETTINGS = [
    (2, 3, (3, 3), (1, 1), (1, 1), (1, 1), 1, 1),
    (4, 2, (3, 2), (2, 1), (1, 0), (1, 2), 2, 1),
    (4, 4, (1, 3), (1, 2), (0, 2), (1, 1), 1, 2),
    (4, 6, (2, 2), (2, 2), (2, 1), (2, 1), 2, 4),
    (4, 4, (3, 3), (1, 1), (2, 2), (2, 2), 4, 2),
]
IDS = [
    'plain',
    'groups',
    'deform_groups',
    'both_strided',
    'depthwise_dilated',
]
IMAGE = (5, 6)


def sample(image, y, x):
    """Bilinear value of (C, H, W); nothing one pixel outside and beyond.

    At whole coordinates its derivatives are those to the right, as mmcv's.
    """
    height, width = image.shape[1:]
    total = image.new_zeros(image.shape[0])
    if not (-1 < y < height and -1 < x < width):
        return total
    y0, x0 = math.floor(y.item()), math.floor(x.item())
    for down, right in itertools.product((0, 1), (0, 1)):
        yi, xi = y0 + down, x0 + right
        if 0 <= yi < height and 0 <= xi < width:
            weight_y = y - y0 if down else 1 - (y - y0)
            weight_x = x - x0 if right else 1 - (x - x0)
            total = total + weight_y * weight_x * image[:, yi, xi]
    return total


def reference(x, offset, mask, weight, bias, setting):
    """Deformable convolution as loops over outputs and kernel positions."""
    cin, cout, kernel, stride, padding, dilation, groups, shared = setting
    size = offset.shape[2:]
    per, rows = cin // shared, []
    filters = weight.view(groups, cout // groups, cin // groups, *kernel)
    for b, i, j in itertools.product(range(len(x)), *map(range, size)):
        total = weight.new_zeros(groups, cout // groups)
        for ky, kx in itertools.product(*map(range, kernel)):
            k = ky * kernel[1] + kx
            y0 = i * stride[0] - padding[0] + ky * dilation[0]
            x0 = j * stride[1] - padding[1] + kx * dilation[1]
            pixels = []
            for d in range(shared):
                at = d * kernel[0] * kernel[1] + k
                dy, dx = offset[b, 2 * at, i, j], offset[b, 2 * at + 1, i, j]
                part = x[b, d * per : (d + 1) * per]
                value = sample(part, y0 + dy, x0 + dx)
                pixels.append(value * mask[b, at, i, j])
            pixel = torch.cat(pixels).view(groups, cin // groups, 1)
            total = total + (filters[..., ky, kx] @ pixel)[..., 0]
        rows.append(total.flatten() + bias)
    out = torch.stack(rows).view(len(x), *size, cout)
    return out.permute(0, 3, 1, 2)


def operands(setting, dtype=torch.float64, batch=2):
    """Input, offset, mask, weight and bias."""
    cin, cout, kernel, stride, padding, dilation, groups, shared = setting
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(IMAGE, padding, dilation, kernel, stride)
    ]
    taps = shared * kernel[0] * kernel[1]
    g = torch.Generator().manual_seed(0)
    shapes = [
        (batch, cin, *IMAGE),
        (batch, 2 * taps, *size),
        (batch, taps, *size),
        (cout, cin // groups, *kernel),
        (cout,),
    ]
    made = [torch.randn(s, generator=g, dtype=torch.float64) for s in shapes]
    made[1] *= 1.5  # some samples cross the border
    made[2] = made[2].sigmoid()
    return [t.to(dtype) for t in made]


def layer(kind, setting, dtype=torch.float64, **kwargs):
    cin, cout, kernel, stride, padding, dilation, groups, shared = setting
    return kind(
        cin,
        cout,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        deform_groups=shared,
        **kwargs,
    ).to(dtype)


def compare_gradients(out, expected, pairs):
    g = torch.Generator().manual_seed(1)
    seed = torch.randn(out.shape, generator=g).to(out)
    out.backward(seed)
    expected.backward(seed)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine.grad, theirs.grad)
        assert theirs.grad.abs().max() > 0.01


@pytest.mark.parametrize('setting', SETTINGS, ids=IDS)
def test_deform_conv__value_and_gradients(setting):
    x, offset, mask, weight, _ = operands(setting)
    conv = layer(ops.DeformConv2d, setting)
    conv.weight.data.copy_(weight)
    leaves = [t.clone().requires_grad_() for t in (x, offset, weight)]
    mine = [t.clone().requires_grad_() for t in (x, offset)]
    out = conv(*mine)
    expected = reference(
        leaves[0], leaves[1], torch.ones_like(mask), leaves[2], 0, setting
    )
    torch.testing.assert_close(out, expected)
    compare_gradients(out, expected, zip([*mine, conv.weight], leaves))


@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize('setting', SETTINGS, ids=IDS)
def test_modulated_deform_conv__value_and_gradients(setting, with_bias):
    x, offset, mask, weight, bias = operands(setting)
    conv = layer(ops.ModulatedDeformConv2d, setting, bias=with_bias)
    conv.weight.data.copy_(weight)
    leaves = [t.clone().requires_grad_() for t in (x, offset, mask, weight)]
    mine = [t.clone().requires_grad_() for t in (x, offset, mask)]
    parameters = [conv.weight]
    shift = bias.clone().requires_grad_()
    if with_bias:
        conv.bias.data.copy_(bias)
        parameters.append(conv.bias)
    out = conv(*mine)
    expected = reference(*leaves, shift if with_bias else 0, setting)
    torch.testing.assert_close(out, expected)
    # zip drops the bias of the reference where there is none.
    compare_gradients(
        out, expected, zip([*mine, *parameters], [*leaves, shift])
    )


def test_modulated_deform_conv__finite_differences():
    setting = (2, 2, (2, 2), (1, 1), (0, 0), (1, 1), 1, 1)
    leaves = [t[:1, :, :3, :3] for t in operands(setting)[:3]]
    leaves[1], leaves[2] = leaves[1][..., :2, :2], leaves[2][..., :2, :2]
    leaves = [t.contiguous().requires_grad_() for t in leaves]
    weight, bias = (t.requires_grad_() for t in operands(setting)[3:])
    assert torch.autograd.gradcheck(
        ops.modulated_deform_conv2d, (*leaves, weight, bias)
    )


def test_deform_conv__zero_offsets_are_a_convolution():
    setting = SETTINGS[0]
    x, offset, _, weight, _ = operands(setting, torch.float32)
    conv = layer(ops.DeformConv2d, setting, torch.float32)
    conv.weight.data.copy_(weight)
    torch.testing.assert_close(
        conv(x, torch.zeros_like(offset)),
        torch.nn.functional.conv2d(x, weight, padding=1),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize('shift', [-1.0, 0.0, 1.0])
@pytest.mark.parametrize('setting', SETTINGS, ids=IDS)
def test_modulated_deform_conv__whole_pixel_offsets(setting, shift):
    """Where interpolation has kinks, at the border above all."""
    x, offset, mask, weight, bias = operands(setting)
    offset = torch.full_like(offset, shift)
    leaves = [
        t.clone().requires_grad_() for t in (x, offset, mask, weight, bias)
    ]
    mine = [
        t.clone().requires_grad_() for t in (x, offset, mask, weight, bias)
    ]
    _, _, _, stride, padding, dilation, groups, shared = setting
    out = ops.modulated_deform_conv2d(
        *mine, stride, padding, dilation, groups, shared
    )
    expected = reference(*leaves, setting)
    torch.testing.assert_close(out, expected)
    compare_gradients(out, expected, zip(mine, leaves))


@pytest.mark.parametrize('im2col_step', [1, 2, 4, 32])
def test_deform_conv__im2col_step_does_not_matter(im2col_step):
    setting = SETTINGS[3]
    x, offset, mask, weight, _ = operands(setting, batch=4)
    conv = layer(ops.DeformConv2d, setting, im2col_step=im2col_step)
    conv.weight.data.copy_(weight)
    expected = reference(x, offset, torch.ones_like(mask), weight, 0, setting)
    torch.testing.assert_close(conv(x, offset), expected)


def test_deform_conv__weight_gradient_alone():
    x, offset, mask, weight, _ = operands(SETTINGS[1])
    conv = layer(ops.DeformConv2d, SETTINGS[1])
    conv(x, offset).sum().backward()
    leaf = weight.clone().requires_grad_()
    reference(
        x, offset, torch.ones_like(mask), leaf, 0, SETTINGS[1]
    ).sum().backward()
    torch.testing.assert_close(conv.weight.grad, leaf.grad)


def test_packs__train_with_their_own_offsets():
    torch.manual_seed(0)
    for kind in (ops.DeformConv2dPack, ops.ModulatedDeformConv2dPack):
        conv = kind(2, 2, 3, padding=1)
        out = conv(torch.randn(2, 2, 4, 5))
        assert out.shape == (2, 2, 4, 5)
        out.square().sum().backward()
        grads = [p.grad for p in conv.parameters()]
        assert all(g.isfinite().all() for g in grads)
        assert conv.weight.grad.abs().sum() > 0


@pytest.mark.skipif(COMPILED, reason='compiled mmcv has no bfloat16')
def test_packs__bfloat16_autocast():
    torch.manual_seed(0)
    for kind in (ops.DeformConv2dPack, ops.ModulatedDeformConv2dPack):
        conv = kind(4, 4, 3, padding=1, bias=False)
        torch.nn.init.normal_(conv.conv_offset.weight, std=0.1)
        x = torch.randn(2, 4, 5, 6)
        full = conv(x)
        with torch.autocast('cpu', torch.bfloat16):
            out = conv(x)
            out.float().sum().backward()
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), full, rtol=0.1, atol=0.1)
        assert all(p.grad.isfinite().all() for p in conv.parameters())


def run_plain(functions, x, offset, weight, setting):
    """Forward and both backward passes of ``mmcv._ext``-like functions."""
    _, _, kernel, stride, padding, dilation, groups, shared = setting
    names = ['k', 'd', 'pad', 'dilation']
    geometry = {'group': groups, 'deformable_group': shared, 'im2col_step': 1}
    for name, pair in zip(names, (kernel, stride, padding, dilation)):
        geometry[f'{name}H'], geometry[f'{name}W'] = pair
    size = (len(x), weight.shape[0], *offset.shape[2:])
    out, a, b = x.new_zeros(size), x.new_empty(0), x.new_empty(0)
    functions.deform_conv_forward(x, weight, offset, out, a, b, **geometry)
    g = torch.Generator().manual_seed(2)
    grad = torch.randn(size, generator=g).to(x)
    grads = [torch.zeros_like(t) for t in (x, offset, weight)]
    functions.deform_conv_backward_input(
        x, offset, grad, grads[0], grads[1], weight, a, **geometry
    )
    functions.deform_conv_backward_parameters(
        x, offset, grad, grads[2], a, b, scale=1, **geometry
    )
    return [out, *grads]


def run_modulated(functions, x, offset, mask, weight, bias, setting):
    _, _, kernel, stride, padding, dilation, groups, shared = setting
    geometry = {'group': groups, 'deformable_group': shared}
    names = ['kernel', 'stride', 'pad', 'dilation']
    for name, pair in zip(names, (kernel, stride, padding, dilation)):
        geometry[f'{name}_h'], geometry[f'{name}_w'] = pair
    geometry['with_bias'] = True
    size = (len(x), weight.shape[0], *offset.shape[2:])
    out, a, b = x.new_zeros(size), x.new_empty(0), x.new_empty(0)
    functions.modulated_deform_conv_forward(
        x, weight, bias, a, offset, mask, out, b, **geometry
    )
    g = torch.Generator().manual_seed(2)
    grad = torch.randn(size, generator=g).to(x)
    grads = [torch.zeros_like(t) for t in (x, weight, bias, offset, mask)]
    functions.modulated_deform_conv_backward(
        x, weight, bias, a, offset, mask, b, *grads, grad, **geometry
    )
    return [out, *grads]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_stand_in__half_types_compute_in_float32(dtype):
    setting = SETTINGS[1]
    x, offset, mask, weight, bias = operands(setting, dtype)
    wide = [t.float() for t in (x, offset, mask, weight, bias)]
    mine = run_modulated(
        modulated_deform_conv, x, offset, mask, weight, bias, setting
    )
    full = run_modulated(modulated_deform_conv, *wide, setting)
    # The gradient seed is rounded to the half type too, hence only close.
    for a, b in zip(mine, full):
        assert a.dtype == dtype
        torch.testing.assert_close(a.float(), b, rtol=0.05, atol=0.05)
    assert torch.equal(mine[0], full[0].to(dtype))


def test_stand_in__scale_and_accumulation_of_the_weight_gradient():
    setting = SETTINGS[0]
    x, offset, _, weight, _ = operands(setting)
    once = run_plain(deform_conv, x, offset, weight, setting)[3]
    buffer = torch.ones_like(weight)
    g = torch.Generator().manual_seed(2)
    grad = torch.randn(2, 3, *IMAGE, generator=g).to(x)
    empty = x.new_empty(0)
    deform_conv.deform_conv_backward_parameters(
        x, offset, grad, buffer, empty, empty,
        3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 0.5, 1,
    )  # fmt: skip
    torch.testing.assert_close(buffer, 1 + 0.5 * once)


def test_stand_in__kernel_size_that_does_not_fit():
    setting = SETTINGS[0]
    x, offset, _, weight, _ = operands(setting)
    wrong = (*setting[:2], (2, 3), *setting[3:])
    with pytest.raises(ValueError, match=r'kernel size \(2, 3\)'):
        run_plain(deform_conv, x, offset, weight, wrong)


@pytest.mark.skipif(not COMPILED, reason='needs the compiled mmcv')
@pytest.mark.parametrize('setting', SETTINGS, ids=IDS)
def test_stand_in__equals_compiled(setting):
    ext = importlib.import_module('mmcv._ext')
    x, offset, mask, weight, bias = operands(setting)
    for a, b in zip(
        run_plain(deform_conv, x, offset, weight, setting),
        run_plain(ext, x, offset, weight, setting),
    ):
        torch.testing.assert_close(a, b)
    five = (x, offset, mask, weight, bias)
    for a, b in zip(
        run_modulated(modulated_deform_conv, *five, setting),
        run_modulated(ext, *five, setting),
    ):
        torch.testing.assert_close(a, b)
