"""Chunk by chunk against all rows at once."""

import gc
import weakref

import pytest
import torch
from torch import nn

from mmdense.models.utils.chunked_loss import chunked_loss

# torch 2.1 has autocast to bfloat16 alone on the CPU
HALF = [torch.bfloat16, torch.float16]
HALF = HALF if hasattr(torch, 'get_autocast_dtype') else HALF[:1]


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 5)
        self.second.bias.requires_grad_(False)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def _setting(rows=7):
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = _Net()
    inputs = torch.randn(rows, 3, 6, generator=g, requires_grad=True)
    weights = torch.rand(rows, 3, 5, generator=g)
    seen = []

    def function(piece, start, stop):
        seen.append((start, stop))
        out = net(piece).float()
        return (out.sin() * weights[start:stop]).sum()

    return net, inputs, function, seen


def _gradients(net, inputs):
    found = [inputs.grad, *(p.grad for p in net.parameters())]
    net.zero_grad()
    inputs.grad = None
    return found


@pytest.mark.parametrize('chunk', [1, 2, 3, 7, 50])
def test_chunked_loss__equals_all_rows_at_once(chunk):
    net, inputs, function, seen = _setting()
    want = function(inputs, 0, 7)
    want.backward()
    expected = _gradients(net, inputs)
    seen.clear()
    got = chunked_loss(function, chunk, inputs, [net])
    assert seen == [(i, min(i + chunk, 7)) for i in range(0, 7, chunk)]
    got.backward()
    assert got.dtype == torch.float32 and got.shape == ()
    torch.testing.assert_close(got, want)
    for own, other in zip(_gradients(net, inputs), expected):
        if other is None:
            assert own is None
        else:
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)


def test_chunked_loss__upstream_factor_reaches_every_gradient():
    net, inputs, function, _ = _setting()
    chunked_loss(function, 2, inputs, [net]).backward()
    plain = _gradients(net, inputs)
    (chunked_loss(function, 2, inputs, [net]) * 65536).backward()
    # a power of two is exact
    for scaled, one in zip(_gradients(net, inputs), plain):
        assert (scaled is None) == (one is None)
        if one is not None:
            assert torch.equal(scaled, one * 65536)


def test_chunked_loss__gradients_reach_what_was_before():
    net, inputs, function, _ = _setting()
    before = nn.Linear(6, 6)
    chunked_loss(function, 2, before(inputs), [net]).backward()
    got = before.weight.grad.clone()
    before.zero_grad()
    function(before(inputs), 0, 7).backward()
    torch.testing.assert_close(got, before.weight.grad)


def test_chunked_loss__twice_in_one_graph():
    """The groups of crops share a head."""
    net, inputs, function, _ = _setting()
    total = chunked_loss(function, 2, inputs, [net])
    total = total + 3 * chunked_loss(function, 4, inputs, [net])
    total.backward()
    twice = _gradients(net, inputs)
    (4 * function(inputs, 0, 7)).backward()
    for own, other in zip(twice, _gradients(net, inputs)):
        if other is not None:
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('frozen', ['module', 'inputs', 'both'])
def test_chunked_loss__parts_without_gradient(frozen):
    net, inputs, function, _ = _setting()
    if frozen != 'inputs':
        net.requires_grad_(False)
    if frozen != 'module':
        inputs = inputs.detach()
    want = function(inputs, 0, 7).detach()
    got = chunked_loss(function, 3, inputs, [net])
    torch.testing.assert_close(got.detach(), want)
    assert got.requires_grad == (frozen != 'both')
    if frozen != 'both':
        got.backward()
    assert (inputs.grad is None) == (frozen != 'module')
    assert (net.first.weight.grad is None) == (frozen != 'inputs')


def test_chunked_loss__without_gradient_mode():
    net, inputs, function, seen = _setting()
    want = function(inputs, 0, 7).detach()
    seen.clear()
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            got = chunked_loss(function, 3, inputs, [net])
        assert not got.requires_grad
        torch.testing.assert_close(got.clone(), want)
    assert seen == [(0, 3), (3, 6), (6, 7)] * 2


@pytest.mark.parametrize('dtype', HALF)
@pytest.mark.parametrize('chunk', [1, 3, 7])
def test_chunked_loss__autocast_equals_unchunked(dtype, chunk):
    """Rows are cast alike; weight gradients are summed in another order."""
    net, inputs, function, _ = _setting()
    with torch.autocast('cpu', dtype=dtype):
        want = function(inputs, 0, 7)
    want.backward()
    expected = _gradients(net, inputs)
    with torch.autocast('cpu', dtype=dtype):
        got = chunked_loss(function, chunk, inputs, [net])
    got.backward()
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    found = _gradients(net, inputs)
    # the rounding of one product to half precision
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(found[0], expected[0], rtol=unit, atol=unit)
    for own, other in zip(found[1:], expected[1:]):
        if other is not None:
            assert own.dtype == torch.float32
            scale = other.abs().max()
            assert (own - other).abs().max() < 4 * unit * scale


@pytest.mark.parametrize('dtype', HALF)
def test_chunked_loss__autocast_state_stays(dtype):
    net, inputs, _, _ = _setting()
    kinds = []

    def function(piece, start, stop):
        kinds.append(net(piece).dtype)
        return net(piece).float().sum()

    with torch.autocast('cpu', dtype=dtype):
        chunked_loss(function, 3, inputs, [net])
        assert torch.is_autocast_cache_enabled()
        kinds.append(net(inputs).dtype)
        with torch.autocast('cpu', enabled=False):
            chunked_loss(function, 7, inputs, [net])
    assert kinds == [dtype] * 4 + [torch.float32]


def test_chunked_loss__casts_of_an_earlier_pass_without_gradients():
    """Autocast keeps casts of weights, those of ``no_grad`` too."""
    net, inputs, function, _ = _setting()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        chunked_loss(function, 3, inputs, [net]).backward()
    want = _gradients(net, inputs)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        with torch.no_grad():
            net(inputs)
        chunked_loss(function, 3, inputs, [net]).backward()
    for own, other in zip(_gradients(net, inputs), want):
        assert (own is None) == (other is None)
        assert own is None or torch.equal(own, other)


def _held_at_most(function):
    """Most bytes that autograd kept at a time, and at the end."""

    class Held:
        def __init__(self, tensor):
            self.tensor = tensor

    live = weakref.WeakSet()
    most = [0]

    def size():
        storages = {
            h.tensor.untyped_storage().data_ptr(): h.tensor.untyped_storage()
            for h in live
        }
        return sum(s.nbytes() for s in storages.values())

    def pack(tensor):
        held = Held(tensor)
        live.add(held)
        most[0] = max(most[0], size())
        return held

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda h: h.tensor):
        loss = function()
    gc.collect()
    return most[0], size(), loss


def test_chunked_loss__keeps_gradients_and_one_chunk():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 256), nn.ReLU(), nn.Linear(256, 1))
    inputs = torch.randn(64, 4, requires_grad=True)

    def function(piece, start, stop):
        return net(piece).square().sum()

    own = 4 * (inputs.numel() + sum(p.numel() for p in net.parameters()))
    row = 4 * 256
    plain = _held_at_most(lambda: function(inputs, 0, 64))
    assert plain[1] > 64 * row
    for chunk in (1, 4):
        most, end, loss = _held_at_most(
            lambda chunk=chunk: chunked_loss(function, chunk, inputs, [net])
        )
        assert end <= own
        # activations of a chunk before and behind the ReLU, and weights
        assert most <= own + 4 * chunk * row
        assert loss.requires_grad
