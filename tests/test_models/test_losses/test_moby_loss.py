"""MoBYLoss and its queues against loops over queries and keys."""

import math
import pickle
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from mmdense.models.losses import MoBYLoss
from mmdense.models.losses.contrast import check_queue, enqueue, info_nce

DIMS = 5
# torch 2.1 has autocast to bfloat16 alone on the CPU
HALF = [torch.bfloat16, torch.float16]
HALF = HALF if hasattr(torch, 'get_autocast_dtype') else HALF[:1]


def _draw(batch=3, seed=0, scale=1.0):
    """Predictions of views 1 and 2, keys of views 1 and 2."""
    g = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(batch, DIMS, generator=g) for _ in range(4)]


def _unit(x):
    return x / math.sqrt(float((x.detach() * x.detach()).sum()))


def _direction(queries, keys, queue, temperature):
    total = 0.0
    for query, key in zip(queries, keys):
        q = query / query.pow(2).sum().sqrt()
        scores = [q @ _unit(key) / temperature]
        scores += [q @ column / temperature for column in queue.t()]
        scores = torch.stack(scores)
        total = total - (scores[0].exp() / scores.exp().sum()).log()
    return total / len(queries)


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('temperature', [0.1, 0.2, 1.0])
@pytest.mark.parametrize('scale', [0.01, 3.0])
def test_forward__equals_loops(batch, temperature, scale):
    module = MoBYLoss(DIMS, 12, temperature)
    given = [x.requires_grad_() for x in _draw(batch, scale=scale)]
    out = module(*given)
    out['loss'].backward()
    p1, p2, k1, k2 = (x.detach().double().requires_grad_() for x in given)
    queue1, queue2 = module.queue1.double(), module.queue2.double()
    want = _direction(p1, k2, queue2, temperature)
    want = want + _direction(p2, k1, queue1, temperature)
    torch.testing.assert_close(
        out['loss'].double(), want, rtol=1e-5, atol=1e-6
    )
    want.backward()
    for own, other in zip(given[:2], (p1, p2)):
        torch.testing.assert_close(
            own.grad.double(), other.grad, rtol=1e-4, atol=1e-5
        )
    assert given[2].grad is None and given[3].grad is None


def test_forward__each_view_has_its_queue():
    """Keys of the other view are told from the queue of the other view."""
    module = MoBYLoss(DIMS, 12)
    preds_keys = _draw()
    base = module(*preds_keys)['loss']
    p1, p2, k1, k2 = preds_keys
    one = info_nce(F.normalize(p1), F.normalize(k2), module.queue2, 0.2)
    with torch.no_grad():
        module.queue1.normal_()
    two = module(*preds_keys)['loss']
    assert (two - base).abs() > 1e-2
    module.queue2.copy_(F.normalize(torch.randn(DIMS, 12), dim=0))
    other = info_nce(F.normalize(p1), F.normalize(k2), module.queue2, 0.2)
    three = module(*preds_keys)['loss']
    torch.testing.assert_close(three - two, other - one)


def test_forward__monitors_equal_loops():
    p1, p2, k1, k2 = _draw()
    out = MoBYLoss(DIMS, 12)(p1, p2, k1, k2)
    cosines = [float(_unit(a) @ _unit(b)) for a, b in zip(p1, k2)]
    cosines += [float(_unit(a) @ _unit(b)) for a, b in zip(p2, k1)]
    assert out['pos_cos'].item() == pytest.approx(sum(cosines) / 6, abs=1e-6)
    unit = torch.stack([_unit(k) for k in k1])
    spread = unit.var(dim=0, unbiased=False).sqrt().mean() * DIMS**0.5
    assert out['std_key'].item() == pytest.approx(spread.item(), rel=1e-5)
    assert [k for k in out if 'loss' in k] == ['loss']


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_forward__computes_in_float32_whatever_comes(dtype):
    given = [x.to(dtype) for x in _draw()]
    module = MoBYLoss(DIMS, 12)
    other = deepcopy(module)
    with torch.autocast('cpu', dtype=dtype if dtype in HALF else HALF[0]):
        got = module(*given)
    want = other(*[x.float() for x in given])
    for name, value in got.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, want[name])
    module.after_step(), other.after_step()
    assert torch.equal(module.queue1, other.queue1)


def test_queue__start_is_random_and_of_length_one():
    module = MoBYLoss(DIMS, 4096)
    for queue in (module.queue1, module.queue2):
        assert queue.shape == (DIMS, 4096)
        torch.testing.assert_close(queue.norm(dim=0), torch.ones(4096))
        assert queue.mean().abs() < 0.02
    assert not torch.equal(module.queue1, module.queue2)
    assert module.queue_ptr.tolist() == [0]
    assert set(module.state_dict()) == {'queue1', 'queue2', 'queue_ptr'}


def test_queue__content_and_pointer_over_more_than_one_round():
    module = MoBYLoss(DIMS, 12)
    want = [list(q.t()) for q in (module.queue1, module.queue2)]
    place = 0
    for step in range(6):
        p1, p2, k1, k2 = _draw(seed=step)
        before = module.queue1.clone(), module.queue2.clone()
        module(p1, p2, k1, k2)
        # the keys of this step are no negatives of it
        assert torch.equal(module.queue1, before[0])
        assert torch.equal(module.queue2, before[1])
        assert module.queue_ptr.item() == place
        module.after_step()
        for row in range(3):
            want[0][place] = _unit(k1[row])
            want[1][place] = _unit(k2[row])
            place = (place + 1) % 12
        assert module.queue_ptr.item() == place
        for queue, rows in zip((module.queue1, module.queue2), want):
            torch.testing.assert_close(queue.t(), torch.stack(rows))
    assert place == 6
    module.after_step()
    assert module.queue_ptr.item() == 6


def test_queue__accumulated_batches_enter_one_after_the_other():
    one, two = MoBYLoss(DIMS, 12), MoBYLoss(DIMS, 12)
    two.load_state_dict(one.state_dict())
    for step in range(3):
        one(*_draw(seed=step))
        one.after_step()
        two(*_draw(seed=step))
    two.after_step()
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


def test_queue__a_place_is_taken_over_the_end():
    """A pointer that a file of another batch size left."""
    module = MoBYLoss(DIMS, 12)
    module.queue_ptr.fill_(10)
    p1, p2, k1, k2 = _draw(batch=4)
    module(p1, p2, k1, k2)
    module.after_step()
    for row, place in enumerate((10, 11, 0, 1)):
        torch.testing.assert_close(module.queue1[:, place], _unit(k1[row]))
    assert module.queue_ptr.item() == 2


def test_queue__evaluation_leaves_no_trace():
    module = MoBYLoss(DIMS, 12).eval()
    before = deepcopy(module.state_dict())
    module(*_draw())
    module.train().after_step()
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_queue__copies_leave_out_what_is_held():
    module = MoBYLoss(DIMS, 12)
    module(*_draw())
    for copy in (deepcopy(module), pickle.loads(pickle.dumps(module))):
        copy.after_step()
        assert torch.equal(copy.queue1, module.queue1)
        assert copy.queue_ptr.item() == 0


def test_enqueue__wraps():
    queue = torch.zeros(2, 5)
    keys = torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    enqueue(queue, keys, torch.tensor([4]))
    want = [[3.0, 5, 0, 0, 1], [4, 6, 0, 0, 2]]
    assert queue.tolist() == want


@pytest.mark.parametrize('keys,near', [(5, '4 or 6'), (7, '6'), (24, '12')])
def test_check_queue__says_what_would_fit(keys, near):
    with pytest.raises(ValueError) as caught:
        MoBYLoss(DIMS, 12)(*_draw(batch=keys))
    told = str(caught.value)
    assert f'model.loss.queue_size=12 is not divisible by the {keys}' in told
    assert any(f'fits is {n};' in told for n in near.split(' or '))


def test_check_queue__every_divisor_fits():
    for keys in range(1, 13):
        if 12 % keys == 0:
            check_queue(12, keys, 'x')
        else:
            with pytest.raises(ValueError, match=f'the {keys} keys'):
                check_queue(12, keys, 'x')


@pytest.mark.parametrize('kwargs', [dict(queue_size=0), dict(temperature=0.0)])
def test_init__values_out_of_range(kwargs):
    with pytest.raises(ValueError, match='must be positive'):
        MoBYLoss(**kwargs)
