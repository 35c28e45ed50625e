"""The stand-in's operators on a GPU give what they give on the CPU."""

import importlib
import types

import pytest
import torch

from mmdense.utils.mmcv_ext import extension, install

install()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason='needs a CUDA device'
    ),
]

FAMILIES = [
    'nms',
    'roi_align',
    'deform_conv',
    'modulated_deform_conv',
    'multi_scale_deform_attn',
    'focal_loss',
]


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    """mmcv's functions on the stand-in, compiled mmcv or not."""
    operators = types.SimpleNamespace(**extension.OPERATORS)
    for name in FAMILIES:
        module = importlib.import_module(f'mmcv.ops.{name}')
        monkeypatch.setattr(module, 'ext_module', operators)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def boxes(n=50):
    g = torch.Generator().manual_seed(1)
    top_left = torch.rand(n, 2, generator=g) * 20
    return torch.cat(
        (top_left, top_left + 1 + torch.rand(n, 2, generator=g) * 20), 1
    )


def both(function, *leaves):
    """Output and gradients on both devices."""
    results = []
    for device in ('cpu', 'cuda'):
        mine = [t.detach().to(device).requires_grad_() for t in leaves]
        out = function(*mine)
        out.backward(draw(*out.shape, seed=9).to(out))
        results.append([out, *(t.grad for t in mine)])
    for host, device in zip(*results):
        torch.testing.assert_close(device.cpu(), host, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('offset', [0, 1])
def test_nms__cuda(offset):
    ops = importlib.import_module('mmcv.ops')
    scores = torch.rand(50, generator=torch.Generator().manual_seed(2))
    host = ops.nms(boxes(), scores, 0.4, offset)[1]
    device = ops.nms(boxes().cuda(), scores.cuda(), 0.4, offset)[1]
    assert device.cpu().tolist() == host.tolist()
    assert 0 < len(host) < 50


@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align__cuda(aligned):
    ops = importlib.import_module('mmcv.ops')
    rois = torch.cat((torch.arange(50)[:, None] % 2, boxes()), 1)
    pool = ops.RoIAlign((2, 3), 0.5, 0, 'avg', aligned)
    both(lambda x: pool(x, rois.to(x)), draw(2, 3, 12, 14))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_roi_align__cuda_half(dtype):
    ops = importlib.import_module('mmcv.ops')
    rois = torch.cat((torch.zeros(50, 1), boxes()), 1).cuda()
    x = draw(1, 3, 12, 14).cuda().to(dtype)
    out = ops.RoIAlign((2, 2), 0.5)(x, rois)
    assert out.dtype == dtype
    full = ops.RoIAlign((2, 2), 0.5)(x.float(), rois)
    assert torch.equal(out, full.to(dtype))


def test_deform_conv__cuda():
    ops = importlib.import_module('mmcv.ops')
    both(
        lambda x, offset, weight: ops.deform_conv2d(
            x, offset, weight, 1, 1, 1, 2, 2
        ),
        draw(2, 4, 5, 6),
        draw(2, 36, 5, 6),
        draw(4, 2, 3, 3),
    )


def test_modulated_deform_conv__cuda():
    ops = importlib.import_module('mmcv.ops')
    both(
        lambda x, offset, mask, weight, bias: ops.modulated_deform_conv2d(
            x, offset, mask, weight, bias, 1, 1, 1, 2, 2
        ),
        draw(2, 4, 5, 6),
        draw(2, 36, 5, 6),
        draw(2, 18, 5, 6).sigmoid(),
        draw(4, 2, 3, 3),
        draw(4),
    )


def test_ms_deform_attn__cuda():
    module = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
    shapes, starts = torch.tensor([[3, 4], [2, 2]]), torch.tensor([0, 12])

    def attend(value, locations, weights):
        return module.MultiScaleDeformableAttnFunction.apply(
            value,
            shapes.to(value.device),
            starts.to(value.device),
            locations,
            weights,
            64,
        )

    both(
        attend,
        draw(2, 16, 2, 3),
        draw(2, 5, 2, 2, 3, 2).sigmoid(),
        draw(2, 5, 2, 2, 3),
    )


def test_sigmoid_focal_loss__cuda():
    ops = importlib.import_module('mmcv.ops')
    labels = torch.arange(6) % 5
    both(
        lambda x: ops.sigmoid_focal_loss(
            x, labels.to(x.device), 2.0, 0.25, None, 'none'
        ),
        draw(6, 4),
    )
