"""Clipping, dropped gradients and the check of the loss."""

import copy
import math

import numpy as np
import pytest
import torch
from mmengine.optim import AmpOptimWrapper as StockAmp
from mmengine.optim import OptimWrapper as StockOptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, DefaultScope
from torch import nn

from mmdense.engine.optimizers import (
    AmpOptimWrapper,
    NonFiniteLossError,
    OptimWrapper,
)
from mmdense.engine.optimizers.optim_wrapper import clip_each_
from mmdense.testing.distributed import run_distributed
from mmdense.testing.launch import ROOT
from mmdense.utils.errors import UserError

CUDA = pytest.param(
    'cuda',
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU'),
    ],
)
SCALING_CPU = pytest.param(
    'cpu',
    marks=pytest.mark.skipif(
        not hasattr(torch.amp, 'GradScaler'), reason='no scaler on CPU'
    ),
)
WRAPPERS = {'fp32': OptimWrapper, 'amp': AmpOptimWrapper}


class _Scaler:
    """What a GradScaler does to gradients, on any device."""

    def __init__(self, scale=8.0):
        self.factor = scale
        self.calls = []

    def scale(self, loss):
        self.calls.append('scale')
        return loss * self.factor

    def unscale_(self, optimizer):
        self.calls.append('unscale')
        for group in optimizer.param_groups:
            for parameter in group['params']:
                if parameter.grad is not None:
                    parameter.grad /= self.factor

    def step(self, optimizer, **kwargs):
        if 'unscale' not in self.calls:
            self.unscale_(optimizer)
        self.calls.append('step')
        optimizer.step(**kwargs)

    def update(self, new_scale=None):
        self.calls.append('update')


def _model(device='cpu'):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)).to(device)


def _wrapper(kind, model, optimizer=torch.optim.AdamW, lr=0.1, **kwargs):
    wrapper = WRAPPERS[kind](
        optimizer=optimizer(model.parameters(), lr=lr), **kwargs
    )
    if kind == 'amp':
        wrapper.loss_scaler = _Scaler()
    return wrapper


def _loss(model, seed=0, factor=1.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 4, generator=generator)
    return factor * (model(x.to(next(model.parameters()).device)) ** 2).sum()


# clipping -----------------------------------------------------------------


def _plain_clip(gradients, limit):
    """Plain loop over the rule."""
    result = []
    for gradient in gradients:
        values = gradient.double().flatten().tolist()
        norm = math.sqrt(sum(v * v for v in values))
        factor = limit / (norm + 1e-6)
        result.append(gradient * factor if factor < 1 else gradient.clone())
    return result


@pytest.mark.parametrize('device', ['cpu', CUDA])
def test_clip_each__norms_of_6_and_1_become_3_and_1(device):
    big = torch.full((4, 9), 1.0, device=device)
    small = torch.tensor([0.6, 0.8], device=device)
    total = clip_each_([big, small], 3.0)
    assert big.norm().item() == pytest.approx(3.0, rel=1e-6)
    assert torch.equal(small.cpu(), torch.tensor([0.6, 0.8]))
    assert total.shape == ()
    assert total.item() == pytest.approx(math.sqrt(37), rel=1e-6)


@pytest.mark.parametrize('limit', [0.02, 0.5, 3.0, 1e4])
def test_clip_each__equals_a_plain_loop(limit):
    torch.manual_seed(1)
    shapes = [(3, 4), (7,), (1, 1, 5), (), (2, 3, 4, 5)]
    gradients = [torch.randn(s) * 10**i for i, s in enumerate(shapes)]
    want = _plain_clip(gradients, limit)
    total = math.sqrt(sum((g.double() ** 2).sum().item() for g in gradients))
    got = clip_each_(gradients, limit)
    assert got.item() == pytest.approx(total, rel=1e-6)
    for one, two in zip(gradients, want):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=0)


def test_clip_each__a_bad_tensor_leaves_the_others_right():
    good = torch.full((9,), 2.0)
    bad = torch.tensor([float('nan'), 5.0])
    clip_each_([bad, good], 3.0)
    assert good.norm().item() == pytest.approx(3.0, rel=1e-6)
    assert bad[1] == 5


@pytest.mark.parametrize('value', [float('inf'), -float('inf'), math.nan])
@pytest.mark.parametrize('device', ['cpu', CUDA])
def test_clip_each__a_tensor_that_is_not_finite_stays(value, device):
    bad = torch.tensor([value, 1.0, 2.0], device=device)
    good = torch.full((9,), 2.0, device=device)
    before = bad.clone()
    total = clip_each_([bad, good], 3.0)
    torch.testing.assert_close(bad, before, rtol=0, atol=0, equal_nan=True)
    assert good.norm().item() == pytest.approx(3.0, rel=1e-6)
    assert not math.isfinite(total)


def test_clip_each__official_gradients():
    data = np.load(ROOT / 'tests/data/golden/dino_step.npz')
    keys = [k[len('gradclip/') :] for k in data.files if 'gradclip/' in k]
    gradients = [torch.from_numpy(data[f'grad/{key}']) for key in keys]
    assert len(gradients) >= 3
    clip_each_(gradients, 0.02)
    for key, gradient in zip(keys, gradients):
        want = torch.from_numpy(data[f'gradclip/{key}'])
        torch.testing.assert_close(gradient, want, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize('kind', WRAPPERS)
def test_step__per_tensor_clip(kind):
    model = _model()
    wrapper = _wrapper(
        kind,
        model,
        torch.optim.SGD,
        lr=1.0,
        clip_grad={'type': 'per_tensor', 'max_norm': 0.5},
    )
    before = [p.detach().clone() for p in model.parameters()]
    twin = copy.deepcopy(model)
    _loss(twin).backward()
    gradients = [p.grad for p in twin.parameters()]
    wrapper.update_params(_loss(model))
    for new, old, grad in zip(
        model.parameters(), before, _plain_clip(gradients, 0.5)
    ):
        torch.testing.assert_close(new.detach(), old - grad)
    total = torch.cat([g.flatten() for g in gradients]).norm()
    torch.testing.assert_close(wrapper.grad_norm, total)
    assert wrapper.grad_norm.shape == ()
    if kind == 'amp':
        assert wrapper.loss_scaler.calls == [
            *('scale', 'unscale', 'step', 'update')
        ]


@pytest.mark.parametrize(
    'clip', [{'max_norm': 0.3}, {'type': 'value', 'clip_value': 0.1}, None]
)
def test_step__other_clipping_as_stock(clip):
    model = _model()
    twin = copy.deepcopy(model)
    ours = _wrapper('fp32', model, clip_grad=copy.deepcopy(clip))
    stock = StockOptimWrapper(
        torch.optim.AdamW(twin.parameters(), lr=0.1),
        clip_grad=copy.deepcopy(clip),
    )
    for seed in range(3):
        ours.update_params(_loss(model, seed))
        stock.update_params(_loss(twin, seed))
    for one, two in zip(model.parameters(), twin.parameters()):
        assert torch.equal(one, two)
    measured = clip is not None and 'max_norm' in clip
    assert (ours.grad_norm is not None) is measured
    if measured:
        scalars = stock.message_hub.log_scalars
        assert ours.grad_norm.item() == pytest.approx(
            scalars['train/grad_norm'].current()
        )


@pytest.mark.parametrize(
    'clip',
    [
        {'type': 'per_tensor'},
        {'type': 'per_tensor', 'max_norm': 0},
        {'type': 'per_tensor', 'max_norm': 3.0, 'norm_type': 1},
    ],
)
def test_init__bad_per_tensor_clip_is_refused(clip):
    with pytest.raises(ValueError, match='takes max_norm'):
        _wrapper('fp32', _model(), clip_grad=clip)


def test_registry__ours_in_our_scope_only():
    optimizer = torch.optim.SGD(_model().parameters(), lr=0.1)
    for scope, ours in (('mmdense', True), ('mmpretrain', False)):
        with DefaultScope.overwrite_default_scope(scope):
            for name in ('OptimWrapper', 'AmpOptimWrapper'):
                built = OPTIM_WRAPPERS.build(
                    {'type': name, 'optimizer': optimizer}
                )
                assert isinstance(built, OptimWrapper) is ours
    assert issubclass(AmpOptimWrapper, StockAmp)


# dropped gradients --------------------------------------------------------


@pytest.mark.parametrize('clip', [None, 'per_tensor', 'norm'])
@pytest.mark.parametrize('kind', WRAPPERS)
def test_drop_gradients__values_and_state_stay(kind, clip):
    model = _model()
    options = (
        {} if clip is None else {'clip_grad': {'type': clip, 'max_norm': 0.5}}
    )
    wrapper = _wrapper(kind, model, **options)
    last = list(model[1].parameters())
    before = [p.detach().clone() for p in last]
    wrapper.drop_gradients(last)
    wrapper.update_params(_loss(model))
    wrapper.update_params(_loss(model, 1))
    # weight decay of AdamW would move them, too
    for parameter, old in zip(last, before):
        assert torch.equal(parameter, old)
        assert parameter not in wrapper.optimizer.state
    assert all(p in wrapper.optimizer.state for p in model[0].parameters())
    wrapper.drop_gradients(None)
    wrapper.update_params(_loss(model, 2))
    for parameter, old in zip(last, before):
        assert not torch.equal(parameter, old)
        assert wrapper.optimizer.state[parameter]['step'] == 1


@pytest.mark.parametrize('clip', [None, {'max_norm': 1e9}])
def test_drop_gradients__unscaled_first(clip):
    """What is left is stepped with at its true size."""
    model = _model()
    twin = copy.deepcopy(model)
    wrapper = _wrapper('amp', model, torch.optim.SGD, clip_grad=clip)
    wrapper.drop_gradients(list(model[1].parameters()))
    wrapper.update_params(_loss(model))
    calls = wrapper.loss_scaler.calls
    assert calls == ['scale', 'unscale', 'step', 'update']
    _loss(twin).backward()
    for new, old in zip(model[0].parameters(), twin[0].parameters()):
        torch.testing.assert_close(new, old - 0.1 * old.grad)


# accumulation -------------------------------------------------------------


@pytest.mark.parametrize('kind', WRAPPERS)
def test_update_params__two_halves_are_a_whole(kind):
    clip = {'type': 'per_tensor', 'max_norm': 0.5}
    model = _model()
    twin = copy.deepcopy(model)
    ours = _wrapper(
        kind, model, accumulative_counts=2, clip_grad=dict(clip), lr=0.01
    )
    whole = _wrapper(kind, twin, clip_grad=dict(clip), lr=0.01)
    last = list(model[1].parameters())[:1]
    ours.drop_gradients(last)
    whole.drop_gradients(list(twin[1].parameters())[:1])
    ours.update_params(_loss(model, 0))
    assert ours.grad_norm is None
    ours.update_params(_loss(model, 1))
    whole.update_params((_loss(twin, 0) + _loss(twin, 1)) / 2)
    for one, two in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(one, two)
    torch.testing.assert_close(ours.grad_norm, whole.grad_norm)


# check of the loss --------------------------------------------------------


@pytest.mark.parametrize('device', ['cpu', CUDA])
@pytest.mark.parametrize('kind', WRAPPERS)
@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
def test_update_params__no_step_with_a_bad_loss(kind, bad, device):
    model = _model(device)
    wrapper = _wrapper(kind, model)
    wrapper.update_params(_loss(model))
    before = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(wrapper.optimizer.state_dict())
    seen = []
    wrapper.on_non_finite = seen.append
    with pytest.raises(NonFiniteLossError, match='no step was made') as info:
        wrapper.update_params(_loss(model, factor=bad))
    assert isinstance(info.value, UserError)
    assert len(seen) == 1 and not torch.isfinite(seen[0])
    assert not seen[0].requires_grad
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    after = wrapper.optimizer.state_dict()['state']
    for index, entry in state['state'].items():
        for key, value in entry.items():
            assert torch.equal(torch.as_tensor(value), after[index][key])


def test_update_params__bad_loss_in_a_window():
    model = _model()
    wrapper = _wrapper('fp32', model, accumulative_counts=3)
    before = copy.deepcopy(model.state_dict())
    wrapper.update_params(_loss(model))
    with pytest.raises(NonFiniteLossError):
        wrapper.update_params(_loss(model, factor=float('nan')))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_optim_context__says_that_forward_begins():
    wrapper = _wrapper('fp32', _model())
    calls = []
    wrapper.on_forward = lambda: calls.append('forward')
    with wrapper.optim_context(nn.Identity()):
        calls.append('inside')
    assert calls == ['forward', 'inside']


def _two_processes(rank, world_size, share):
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Linear(4, 2))
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    wrapper.share_check = share
    saved = []
    wrapper.on_non_finite = lambda loss: saved.append(float(loss))
    x = torch.randn(3, 4)
    wrapper.update_params(model(x).sum())
    before = [p.detach().clone() for p in model.parameters()]
    factor = float('nan') if rank == 1 else 1.0
    try:
        wrapper.update_params(factor * model(x).sum())
        message = 'stepped'
    except NonFiniteLossError as error:
        message = str(error)
    same = all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    return message, len(saved), same


@pytest.mark.dist
def test_share_check__all_processes_stop_before_the_step():
    one, two = run_distributed(_two_processes, 2, True)
    assert 'another process' in one[0] and one[1:] == (0, True)
    assert two[0].startswith('The loss is nan') and two[1:] == (1, True)


# no waiting for the device ------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize(
    'clip', [{'type': 'per_tensor', 'max_norm': 0.5}, {'max_norm': 0.5}]
)
def test_update_params__host_does_not_wait_for_backward(clip):
    """Backward is still running when the loss has been read."""
    model = nn.Linear(4, 4).cuda()
    wrapper = OptimWrapper(
        torch.optim.SGD(model.parameters(), lr=0.1), clip_grad=clip
    )

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            torch.cuda._sleep(int(2e9))
            return grad

    def loss():
        return Slow.apply(model(torch.ones(2, 4, device='cuda'))).sum()

    wrapper.update_params(loss())
    torch.cuda.synchronize()
    end = torch.cuda.Event()
    wrapper.update_params(loss())
    end.record()
    assert not end.query(), 'update_params has waited for the device'
    torch.cuda.synchronize()
    with pytest.raises(NonFiniteLossError):
        wrapper.update_params(loss() * float('nan'))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_amp__real_scaler_on_a_gpu():
    """fp16 overflow skips the step; otherwise gradients are unscaled."""
    model = nn.Linear(4, 2).cuda()
    twin = copy.deepcopy(model)
    wrapper = AmpOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        clip_grad={'type': 'per_tensor', 'max_norm': 0.1},
        loss_scale='dynamic',
    )
    x = torch.randn(3, 4, device='cuda')
    wrapper.drop_gradients([model.bias])
    wrapper.update_params((model(x) ** 2).sum())
    (twin(x) ** 2).sum().backward()
    want = twin.weight - 0.1 * _plain_clip([twin.weight.grad], 0.1)[0]
    torch.testing.assert_close(model.weight, want)
    assert torch.equal(model.bias, twin.bias)
    before = model.weight.detach().clone()
    scale = wrapper.loss_scaler.get_scale()
    # the loss is finite, its gradients times the scale are not
    wrapper.update_params((model(x) * 1e36).mean())
    assert torch.equal(model.weight, before)
    assert wrapper.loss_scaler.get_scale() == scale / 2


def _scaled(device):
    """A wrapper whose scale grows after two good steps, and its model."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2).to(device)
    scaler = {'init_scale': 8.0, 'growth_interval': 2}
    wrapper = AmpOptimWrapper(
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.01),
        clip_grad={'type': 'per_tensor', 'max_norm': 0.1},
        loss_scale=scaler,
    )
    if device == 'cpu':
        # mmengine's is of CUDA, and idle here
        wrapper.loss_scaler = torch.amp.GradScaler(device, **scaler)
    return wrapper, model


def _scaled_steps(wrapper, model, steps):
    """Scale after each step; step 3 overflows."""
    scales, device = [], model.weight.device
    for step in steps:
        x = torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
        factor = 1e38 if step == 3 else 1.0
        wrapper.update_params((model(x.to(device)) * factor).mean())
        scales.append(wrapper.loss_scaler.get_scale())
    return scales


@pytest.mark.parametrize('device', [SCALING_CPU, CUDA])
def test_amp__loss_scale_is_saved_and_resumed(device, tmp_path):
    """Scale and the count of good steps go on; overflow skips a step."""
    wrapper, model = _scaled(device)
    want = _scaled_steps(wrapper, model, range(7))
    # grows after 0, 1; halves at 3; grows after 4, 5
    assert want == [8, 16, 16, 8, 8, 16, 16]
    for stop in (1, 3, 4, 5):
        first, broken = _scaled(device)
        _scaled_steps(first, broken, range(stop))
        path = tmp_path / f'{stop}.pth'
        torch.save([first.state_dict(), broken.state_dict()], path)
        second, resumed = _scaled(device)
        states = torch.load(path, map_location=device, weights_only=False)
        second.load_state_dict(states[0])
        resumed.load_state_dict(states[1])
        got = _scaled_steps(second, resumed, range(stop, 7))
        assert got == want[stop:]
        assert torch.equal(resumed.weight, model.weight)
        assert torch.equal(resumed.bias, model.bias)
