import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdense.models.backbones.tokens import Tokens
from mmdense.models.necks import (
    DPTReassemble,
    FeatureFusion,
    PreActResidualUnit,
)

D = 6


def make_tokens(b=2, h=3, w=4, dist=False, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=g).to(dtype)

    cls, patches = draw(b, D), draw(b, h * w, D)
    return Tokens(cls, patches, (h, w), draw(b, D) if dist else None)


def make_reassemble(factor, readout, out=5):
    torch.manual_seed(0)
    return DPTReassemble(D, out, factor, readout).double()


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


@pytest.mark.parametrize('dist', [False, True])
@pytest.mark.parametrize('readout', ['project', 'add', 'ignore'])
def test_read__equals_a_loop_over_patches(readout, dist):
    tokens = make_tokens(dist=dist)
    module = make_reassemble(1, readout)
    with torch.no_grad():
        got = module.read(tokens).numpy()
    cls, patches = tokens.cls.numpy(), tokens.patches.numpy()
    for b in range(2):
        extra = cls[b]
        if dist and readout == 'add':
            extra = (cls[b] + tokens.dist[b].numpy()) / 2
        for n in range(12):
            patch = patches[b, n]
            if readout == 'project':
                weight = module.readout.weight.detach().numpy()
                bias = module.readout.bias.detach().numpy()
                both = np.concatenate([patch, extra])
                patch = gelu(weight @ both + bias)
            elif readout == 'add':
                patch = patch + extra
            np.testing.assert_allclose(got[b, n], patch, atol=1e-12)


@pytest.mark.parametrize('factor', [4, 2, 1, 0.5, 0.25])
def test_reassemble__equals_plain_layers(factor):
    """Concatenation, Linear, GELU, map, 1x1 and resampling one by one."""
    tokens = make_tokens(h=5, w=7)
    module = make_reassemble(factor, 'project')
    cls = tokens.cls[:, None].expand_as(tokens.patches)
    x = F.gelu(module.readout(torch.cat((tokens.patches, cls), dim=-1)))
    x = module.project(x.transpose(1, 2).reshape(2, D, 5, 7))
    if factor > 1:
        assert isinstance(module.resample, nn.ConvTranspose2d)
        assert module.resample.kernel_size == (factor, factor)
        x = F.conv_transpose2d(
            x, module.resample.weight, module.resample.bias, stride=factor
        )
        size = (5 * factor, 7 * factor)
    elif factor < 1:
        stride = round(1 / factor)
        x = F.conv2d(
            x,
            module.resample.weight,
            module.resample.bias,
            stride=stride,
            padding=1,
        )
        size = (math.ceil(5 * factor), math.ceil(7 * factor))
    else:
        assert module.resample is None
        size = (5, 7)
    got = module(tokens)
    assert got.shape == (2, 5, *size)
    torch.testing.assert_close(got, x)


@pytest.mark.parametrize('factor', [4, 1, 0.5])
def test_reassemble__gradients_are_right_in_float32(factor):
    """torch 2.1 on CPU: a strided gradient makes garbage out of a GELU."""
    exact = make_reassemble(factor, 'project')
    rough = make_reassemble(factor, 'project').float()
    grads = []
    for module, dtype in ((exact, torch.float64), (rough, torch.float32)):
        tokens = make_tokens(h=8, w=6, dtype=dtype)
        inputs = [tokens.cls, tokens.patches]
        for tensor in inputs:
            tensor.requires_grad_()
        if dtype == torch.float64:
            # another way round, with nothing but what surely works
            cls = tokens.cls[:, None].expand_as(tokens.patches)
            x = module.readout(torch.cat((tokens.patches, cls), dim=-1))
            x = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
            x = module.project(x.transpose(1, 2).reshape(2, D, 8, 6))
            y = x if module.resample is None else module.resample(x)
        else:
            y = module(tokens)
        # as a permuted map of a later layer would send it back
        weight = torch.linspace(-1, 1, y.numel(), dtype=dtype)
        shape = (y.shape[0], y.shape[2], y.shape[3], y.shape[1])
        (y * weight.reshape(shape).permute(0, 3, 1, 2)).sum().backward()
        named = dict(module.named_parameters())
        grads.append(
            [p.grad for p in named.values()] + [t.grad for t in inputs]
        )
    for want, got in zip(*grads):
        torch.testing.assert_close(got.double(), want, atol=1e-3, rtol=1e-3)


def test_reassemble__missing_class_token_is_named():
    tokens = make_tokens()._replace(cls=None)
    for readout in ('project', 'add'):
        with pytest.raises(ValueError, match='readout="ignore"'):
            make_reassemble(1, readout)(tokens)
    assert make_reassemble(1, 'ignore')(tokens).shape == (2, 5, 3, 4)


@pytest.mark.parametrize(
    'options', [dict(readout='mean'), dict(factor=1.5), dict(factor=0)]
)
def test_reassemble__bad_arguments(options):
    with pytest.raises(ValueError, match='DPT'):
        DPTReassemble(4, 4, **options)


def reference_unit(unit, x):
    y = F.conv2d(x.clamp(min=0), unit.conv1.weight, unit.conv1.bias, padding=1)
    y = y if unit.norm1 is None else unit.norm1(y)
    y = F.conv2d(y.clamp(min=0), unit.conv2.weight, unit.conv2.bias, padding=1)
    return x + (y if unit.norm2 is None else unit.norm2(y))


@pytest.mark.parametrize('norm', [None, dict(type='BN')])
@pytest.mark.parametrize('training', [True, False])
def test_residual_unit__equals_plain_layers(norm, training):
    torch.manual_seed(0)
    unit = PreActResidualUnit(4, norm).double().train(training)
    for module in (unit.norm1, unit.norm2):
        if module is not None:
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    assert (unit.conv1.bias is None) == (norm is not None)
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    before = x.detach().clone()
    got = unit(x)
    assert torch.equal(x, before)
    params = [x, *unit.parameters()]
    weight = torch.randn_like(got)
    expected = reference_unit(unit, x)
    torch.testing.assert_close(got, expected)
    for a, b in zip(
        torch.autograd.grad((got * weight).sum(), params),
        torch.autograd.grad((expected * weight).sum(), params),
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('with_project', [True, False])
@pytest.mark.parametrize('skip_size', [None, (3, 5), (4, 4)])
def test_fusion__equals_the_official_order(with_project, skip_size):
    """Official: enlarge, then 1x1 convolution."""
    torch.manual_seed(0)
    block = FeatureFusion(
        4, None, with_skip=skip_size is not None, with_project=with_project
    ).double()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    y, inputs = x, [x]
    if skip_size is None:
        assert block.unit1 is None
    else:
        skip = torch.randn(2, 4, *skip_size, dtype=torch.float64)
        inputs.append(skip)
        if skip_size != (3, 5):
            skip = F.interpolate(skip, (3, 5), mode='bilinear')
        y = x + reference_unit(block.unit1, skip)
    y = reference_unit(block.unit2, y)
    y = F.interpolate(y, (6, 10), mode='bilinear', align_corners=True)
    if with_project:
        y = block.project(y)
    assert (block.project is not None) == with_project
    torch.testing.assert_close(block(*inputs), y)
