import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn

from mmdense.models.necks import DINOHead

# torch 2.1 has autocast to bfloat16 alone on the CPU
HALF = [torch.bfloat16, torch.float16]
HALF = HALF if hasattr(torch, 'get_autocast_dtype') else HALF[:1]
SMALL = dict(
    in_channels=6, out_channels=11, hid_channels=9, bottleneck_channels=5
)


class _Reference(nn.Module):
    """The head of the papers, from stock layers."""

    def __init__(self, layers, use_bn=False):
        super().__init__()
        widths = [6, *[9] * (layers - 1), 5]
        parts = []
        for i in range(layers):
            parts.append(nn.Linear(widths[i], widths[i + 1]))
            if i < layers - 1:
                parts += [nn.BatchNorm1d(9)] if use_bn else []
                parts.append(nn.GELU())
        self.mlp = nn.Sequential(*parts) if layers > 1 else parts[0]
        self.last_layer = nn.utils.weight_norm(nn.Linear(5, 11, bias=False))

    def forward(self, x):
        x = self.mlp(x)
        x = x / x.pow(2).sum(dim=-1, keepdim=True).sqrt()
        return self.last_layer(x)


def _pair(layers=3, use_bn=False, norm_last_layer=False):
    head = DINOHead(
        **SMALL,
        num_layers=layers,
        use_bn=use_bn,
        norm_last_layer=norm_last_layer,
    )
    reference = _Reference(layers, use_bn)
    if not norm_last_layer:
        nn.init.uniform_(head.last_layer.weight_g, 0.5, 2)
    # strict: the names are the official ones
    reference.load_state_dict(head.state_dict())
    return head, reference


@pytest.mark.parametrize('layers', [1, 2, 3, 4])
@pytest.mark.parametrize('use_bn', [False, True])
@pytest.mark.parametrize('norm_last_layer', [False, True])
def test_forward__equals_stock_weight_norm(layers, use_bn, norm_last_layer):
    head, reference = _pair(layers, use_bn, norm_last_layer)
    head.double(), reference.double()
    x = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    got, want = head(x), reference(other)
    torch.testing.assert_close(got, want)
    upstream = torch.randn(7, 11)
    (got * upstream).sum().backward()
    (want * upstream).sum().backward()
    torch.testing.assert_close(x.grad, other.grad)
    expected = dict(reference.named_parameters())
    for name, parameter in head.named_parameters():
        if name == 'last_layer.weight_g' and norm_last_layer:
            assert parameter.grad is None and not parameter.requires_grad
            continue
        torch.testing.assert_close(parameter.grad, expected[name].grad)


@pytest.mark.parametrize('dtype', HALF)
def test_forward__autocast_stays_near_float32(dtype):
    """A few roundings of unit vectors: some eps, not tens."""
    head, _ = _pair(norm_last_layer=True)
    for linear in (head.mlp[0], head.mlp[2], head.mlp[4]):
        nn.init.normal_(linear.weight, std=0.4)
    x = torch.randn(50, 6)
    with torch.autocast('cpu', dtype=dtype):
        half = head(x)
        length = head.bottleneck(x).float().norm(dim=1)
    eps = torch.finfo(dtype).eps
    assert (half.float() - head(x)).abs().max() < 8 * eps
    assert (length - 1).abs().max() < 2 * eps


def test_bottleneck__has_length_one_and_gives_the_logits():
    head, _ = _pair()
    x = torch.randn(7, 6)
    z = head.bottleneck(x)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(7))
    torch.testing.assert_close(z @ head.last_layer.weight.t(), head(x))


def test_weight__rows_have_the_magnitudes():
    head, _ = _pair(norm_last_layer=True)
    torch.testing.assert_close(
        head.last_layer.weight.norm(dim=1), torch.ones(11)
    )
    # scaling a direction changes nothing
    x = torch.randn(3, 6)
    before = head(x)
    with torch.no_grad():
        head.last_layer.weight_v.mul_(7)
    torch.testing.assert_close(head(x), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('norm_last_layer', [False, True])
def test_init__start_of_the_parameters(norm_last_layer):
    head = DINOHead(64, 512, 256, 32, norm_last_layer=norm_last_layer)
    assert torch.equal(head.last_layer.weight_g, torch.ones(512, 1))
    assert head.last_layer.weight_g.requires_grad is not norm_last_layer
    assert head.last_layer.weight_v.requires_grad
    for module in head.mlp:
        if isinstance(module, nn.Linear):
            assert module.bias.abs().max() == 0
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert module.weight.mean().abs() < 0.002
    # the stock start of a linear layer: uniform within 1 / sqrt(in)
    bound = 32**-0.5
    assert 0.95 * bound < head.last_layer.weight_v.abs().max() <= bound


def test_init__default_is_the_official_size():
    head = DINOHead(4)
    shapes = {k: tuple(v.shape) for k, v in head.state_dict().items()}
    assert shapes == {
        'mlp.0.weight': (2048, 4),
        'mlp.0.bias': (2048,),
        'mlp.2.weight': (2048, 2048),
        'mlp.2.bias': (2048,),
        'mlp.4.weight': (256, 2048),
        'mlp.4.bias': (256,),
        'last_layer.weight_g': (65536, 1),
        'last_layer.weight_v': (65536, 256),
    }


def test_deepcopy_and_pickle__after_a_forward_pass():
    head, _ = _pair()
    x = torch.randn(3, 6)
    want = head(x)
    for copy in (deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert torch.equal(copy(x), want)
        with torch.no_grad():
            copy.last_layer.weight_v.normal_()
        assert torch.equal(head(x), want)


def test_init__no_layers():
    with pytest.raises(ValueError, match='num_layers=0'):
        DINOHead(4, num_layers=0)
