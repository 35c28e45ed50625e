"""Patch terms against plain computations and loops."""

import gc
import math
import pickle
import weakref
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models.necks import NonLinearNeck
from torch import nn

from mmdense.models.losses import PatchContrastLoss, PatchDistillationLoss
from mmdense.models.losses.patch_loss import PatchGroup
from mmdense.models.necks import DINOHead

DIMS, WIDTH = 6, 9
# (crops, images, patches): two sizes of crops, as in multi-crop
SIZES = [(2, 3, 4), (3, 3, 2)]
# torch 2.1 has autocast to bfloat16 alone on the CPU
HALF = [torch.bfloat16, torch.float16]
HALF = HALF if hasattr(torch, 'get_autocast_dtype') else HALF[:1]


def _heads(norm_last_layer=True, std=0.4):
    torch.manual_seed(0)
    made = []
    for _ in range(2):
        head = DINOHead(DIMS, WIDTH, 8, 5, norm_last_layer=norm_last_layer)
        for module in head.mlp:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=std)
                nn.init.normal_(module.bias, std=std)
        nn.init.uniform_(head.last_layer.weight_g, 0.8, 1.5)
        made.append(head)
    made[1].requires_grad_(False)
    return made


def _draw(sizes=SIZES, seed=0):
    """Tokens of the student, summaries of the teacher, group by group."""
    g = torch.Generator().manual_seed(seed)
    tokens, goals = [], []
    for crops, images, patches in sizes:
        shape = (crops * images, patches, DIMS)
        tokens.append(torch.randn(shape, generator=g))
        goals.append(torch.randn(shape, generator=g))
    return tokens, goals


def _groups(tokens, goals, sizes=SIZES, seen=None):
    def target(goal):
        def cut(start, stop):
            if seen is not None:
                seen.append((start, stop))
            return goal[start:stop]

        return cut

    return [
        PatchGroup(own, crops, target(goal))
        for own, goal, (crops, _, _) in zip(tokens, goals, sizes)
    ]


def _logits(head, x):
    """A DINO head from its parameters."""
    for i in (0, 2):
        x = F.gelu(F.linear(x, head.mlp[i].weight, head.mlp[i].bias))
    x = F.linear(x, head.mlp[4].weight, head.mlp[4].bias)
    x = x / x.pow(2).sum(-1, keepdim=True).sqrt()
    last = head.last_layer
    length = last.weight_v.pow(2).sum(1, keepdim=True).sqrt()
    return x @ (last.weight_v / length * last.weight_g).t()


def _plain(tokens, goals, heads, center, temps, sizes=SIZES):
    """Terms of the crops, and all logits of the teacher."""
    terms, seen = [], []
    for own, goal, (crops, images, _) in zip(tokens, goals, sizes):
        for crop in range(crops):
            rows = slice(crop * images, (crop + 1) * images)
            total, count = 0.0, 0
            for x, y in zip(own[rows].flatten(0, 1), goal[rows].flatten(0, 1)):
                sharp = _logits(heads[1], y)
                seen.append(sharp.detach())
                p = ((sharp - center) / temps[1]).softmax(-1)
                q = (_logits(heads[0], x) / temps[0]).log_softmax(-1)
                total, count = total - (p * q).sum(), count + 1
            terms.append(total / count)
    return terms, torch.stack(seen)


def _module(chunk_size=2048, **kwargs):
    kwargs = {'student_temp': 0.2, 'teacher_temp': 0.07, **kwargs}
    module = PatchDistillationLoss(WIDTH, chunk_size, **kwargs)
    module.set_epoch(1)
    g = torch.Generator().manual_seed(3)
    module.center.copy_(torch.randn(1, WIDTH, generator=g) * 0.1)
    return module


def _run(module, heads, tokens, goals, factor=1.0, sizes=SIZES):
    """Term, gradients of tokens and head."""
    leaves = [x.clone().requires_grad_() for x in tokens]
    out = module(_groups(leaves, goals, sizes), *heads)
    (out['patch_term'] * factor).backward()
    grads = [x.grad for x in leaves]
    grads += [p.grad for p in heads[0].parameters()]
    heads[0].zero_grad()
    return out, grads


@pytest.mark.parametrize('chunk_size', [1, 3, 4, 9, 10**6])
@pytest.mark.parametrize('norm_last_layer', [True, False])
def test_distillation__equals_plain(chunk_size, norm_last_layer):
    heads = _heads(norm_last_layer)
    tokens, goals = _draw()
    module = _module(chunk_size)
    center = module.center[0].double()
    out, grads = _run(module, heads, tokens, goals)
    module.after_step()

    double = [deepcopy(head).double() for head in heads]
    plain = [x.double().requires_grad_() for x in tokens]
    terms, seen = _plain(
        plain, [x.double() for x in goals], double, center, (0.2, 0.07)
    )
    assert len(terms) == 5
    want = sum(terms) / 5
    torch.testing.assert_close(
        out['patch_term'].double(), want, rtol=1e-5, atol=1e-6
    )
    want.backward()
    expected = [x.grad for x in plain]
    expected += [p.grad for p in double[0].parameters()]
    for own, other in zip(grads, expected):
        assert (own is None) == (other is None)
        if own is not None:
            torch.testing.assert_close(
                own.double(), other, rtol=1e-4, atol=1e-6
            )
    moved = 0.9 * center + 0.1 * seen.mean(dim=0)
    torch.testing.assert_close(
        module.center[0].double(), moved, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize('chunk_size', [1, 9])
def test_distillation__each_part_is_asked_for_once(chunk_size):
    tokens, goals = _draw()
    seen = []
    module = _module(chunk_size)
    module(_groups(tokens, goals, seen=seen), *_heads())
    rows = []
    for start, stop in seen:
        rows += range(start, stop)
    assert rows == [*range(6), *range(9)]
    most = {1: 1, 9: 9 // 2}[chunk_size]
    assert max(stop - start for start, stop in seen) == most


def test_distillation__terms_of_ten_crops():
    """Two crops of 4 patches and eight of 2 weigh the same, each 1 / 10."""
    sizes = [(2, 1, 4), (8, 1, 2)]
    tokens, goals = _draw(sizes)
    heads, module = _heads(), _module()
    terms, _ = _plain(
        tokens, goals, heads, module.center[0], (0.2, 0.07), sizes
    )
    assert len(terms) == 10
    out, _ = _run(module, heads, tokens, goals, sizes=sizes)
    torch.testing.assert_close(
        out['patch_term'], sum(terms) / 10, rtol=1e-5, atol=1e-6
    )
    # with every patch weighing the same it would be another number
    weights = torch.tensor([4.0] * 2 + [2.0] * 8)
    other = (torch.stack(terms) * weights).sum() / weights.sum()
    assert (out['patch_term'] - other).abs() > 1e-3


def test_distillation__upstream_factor_of_a_loss_scaler():
    heads = _heads(norm_last_layer=False)
    tokens, goals = _draw()
    _, plain = _run(_module(4), heads, tokens, goals)
    _, scaled = _run(_module(4), heads, tokens, goals, factor=65536.0)
    for one, other in zip(plain, scaled):
        torch.testing.assert_close(other, one * 65536, rtol=1e-6, atol=0)


@pytest.mark.parametrize('dtype', HALF)
@pytest.mark.parametrize('chunk_size', [1, 10**6])
def test_distillation__autocast_stays_near_float32(dtype, chunk_size):
    """Logits of size 1 / temperature are rounded: errors of eps / temp."""
    heads = _heads()
    tokens, goals = _draw()
    want, exact = _run(_module(chunk_size), heads, tokens, goals)
    module = _module(chunk_size)
    with torch.autocast('cpu', dtype=dtype):
        got, grads = _run(module, heads, tokens, goals)
    assert got['patch_term'].dtype == torch.float32
    tolerance = 2 * torch.finfo(dtype).eps / 0.07
    error = (got['patch_term'] - want['patch_term']).abs()
    assert error < tolerance * want['patch_term']
    for own, other in zip(grads, exact):
        if other is None:
            continue
        assert own.dtype == torch.float32
        assert (own - other).norm() < 2 * tolerance * other.norm()


@pytest.mark.parametrize('dtype', HALF)
def test_center__is_summed_in_float32_under_autocast(dtype):
    """More rows than fp16 can count, and a mean that bf16 would round."""
    heads = _heads()
    rows = 80000
    tokens = torch.randn(1, 1, DIMS).expand(1, rows, DIMS)
    sizes = [(1, 1, rows)]
    module = PatchDistillationLoss(WIDTH)
    with torch.no_grad(), torch.autocast('cpu', dtype=dtype):
        z = heads[1].bottleneck(tokens[0, :1]).double()
        module(_groups([tokens], [tokens], sizes), *heads)
    module.after_step()
    want = 0.1 * z @ heads[1].last_layer.weight.double().t()
    assert torch.isfinite(module.center).all()
    # the sum over so many equal rows is good to about 1e-5
    torch.testing.assert_close(
        module.center.double(), want, rtol=1e-4, atol=1e-6
    )


def test_distillation__no_gradient_beyond_student_tokens_and_head():
    heads = _heads()
    heads[1].requires_grad_(True)
    tokens, goals = _draw()
    goals = [x.requires_grad_() for x in goals]
    module = _module()
    leaves = [x.requires_grad_() for x in tokens]
    out = module(_groups(leaves, goals), *heads)
    assert [k for k, v in out.items() if v.requires_grad] == ['patch_term']
    out['patch_term'].backward()
    assert all(x.grad is None for x in goals)
    assert all(p.grad is None for p in heads[1].parameters())
    assert all(x.grad is not None for x in leaves)


def test_distillation__without_gradient_mode_is_the_same_value():
    heads, (tokens, goals) = _heads(), _draw()
    want, _ = _run(_module(4), heads, tokens, goals)
    module = _module(4)
    with torch.no_grad():
        got = module(_groups(tokens, goals), *heads)
    assert not got['patch_term'].requires_grad
    for name, value in got.items():
        torch.testing.assert_close(value, want[name].detach())


def test_distillation__monitors_of_the_first_chunk():
    heads, (tokens, goals) = _heads(), _draw()
    module = _module(chunk_size=8)
    out = module(_groups(tokens, goals), *heads)
    rows = goals[0][:2].flatten(0, 1)
    p = ((_logits(heads[1], rows) - module.center) / 0.07).softmax(-1)
    p = p.double()
    entropy = -(p * p.log()).sum() / 8
    joint = -(p.mean(0) * p.mean(0).log()).sum()
    torch.testing.assert_close(
        out['patch_entropy'].double(),
        entropy / math.log(WIDTH),
        rtol=1e-4,
        atol=1e-6,
    )
    torch.testing.assert_close(
        out['patch_information'].double(),
        (joint - entropy) / math.log(8),
        rtol=1e-4,
        atol=1e-6,
    )
    assert not [k for k in out if 'loss' in k]


def test_center__moves_in_after_step_only_and_not_in_evaluation():
    heads, (tokens, goals) = _heads(), _draw()
    module = _module()
    before = module.center.clone()
    module(_groups(tokens, goals), *heads)
    assert torch.equal(module.center, before)
    for copy in (deepcopy(module), pickle.loads(pickle.dumps(module))):
        copy.after_step()
        assert torch.equal(copy.center, before)
    module.after_step()
    after = module.center.clone()
    assert not torch.equal(after, before)
    module.eval()
    module(_groups(tokens, goals), *heads)
    module.train().after_step()
    assert torch.equal(module.center, after)


def test_center__accumulated_batches_act_as_one():
    heads, (tokens, goals) = _heads(), _draw()
    module, joint = _module(), _module()
    for image in range(3):
        # the crops of one image: every third sequence
        own = [[x[image::3] for x in part] for part in (tokens, goals)]
        module(_groups(*own), *heads)
    joint(_groups(tokens, goals), *heads)
    module.after_step(), joint.after_step()
    torch.testing.assert_close(module.center, joint.center)


def _live_bytes(function):
    """Bytes that the graph holds: at most at a time, and at the end."""

    class Held:
        def __init__(self, tensor):
            self.tensor = tensor

    live = weakref.WeakSet()
    most = [0]

    def size():
        kept = [h.tensor.untyped_storage() for h in live]
        return sum({s.data_ptr(): s.nbytes() for s in kept}.values())

    def pack(tensor):
        held = Held(tensor)
        live.add(held)
        most[0] = max(most[0], size())
        return held

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda h: h.tensor):
        out = function()
    gc.collect()
    return most[0], size(), out


def test_distillation__memory_does_not_grow_with_the_patches():
    width, hidden = 512, 16
    torch.manual_seed(0)
    heads = [DINOHead(DIMS, width, hidden, 8) for _ in range(2)]
    heads[1].requires_grad_(False)
    trained = sum(p.numel() for p in heads[0].parameters() if p.requires_grad)
    found = {}
    for patches in (32, 128):
        tokens = torch.randn(4, patches, DIMS, requires_grad=True)
        goal = torch.randn(4, patches, DIMS)
        sizes = [(2, 2, patches)]
        module = PatchDistillationLoss(width, chunk_size=32)
        most, end, out = _live_bytes(
            lambda m=module, t=tokens, g=goal, s=sizes: m(
                _groups([t], [g], s), *heads
            )
        )
        # for the backward pass: gradients of the tokens and of the head
        assert end <= 4 * (tokens.numel() + trained + 8)
        # no tensor of rows x K
        assert end < 4 * 4 * patches * width
        found[patches] = most - 4 * tokens.numel()
        out['patch_term'].backward()
        assert tokens.grad.abs().max() > 0
    # the chunk holds one tensor of its rows x K at least, 32 or 128 patches
    assert found[32] >= 4 * 32 * width
    assert found[128] <= found[32] + 4 * 96 * (width + 8 * hidden)


def test_distillation__head_with_batch_norm_is_refused():
    """Statistics of a chunk are no statistics of the batch."""
    torch.manual_seed(0)
    heads = [DINOHead(DIMS, WIDTH, 8, 5, use_bn=True) for _ in range(2)]
    with pytest.raises(ValueError, match='use_bn=False'):
        PatchDistillationLoss(WIDTH)(_groups(*_draw()), *heads)


def test_distillation__heads_of_another_width():
    with pytest.raises(ValueError, match=r'out_channels=7.*out_channels=9'):
        PatchDistillationLoss(7)(_groups(*_draw()), *_heads())


@pytest.mark.parametrize(
    'kwargs,told',
    [
        (dict(chunk_size=0), 'chunk_size=0'),
        (dict(student_temp=0), 'student_temp=0'),
        (dict(center_momentum=2), 'center_momentum=2'),
    ],
)
def test_distillation__values_out_of_range(kwargs, told):
    with pytest.raises(ValueError, match=told):
        PatchDistillationLoss(WIDTH, **kwargs)


# contrast -------------------------------------------------------------------


def _neck(seed):
    torch.manual_seed(seed)
    return NonLinearNeck(
        DIMS,
        8,
        DIMS,
        with_avg_pool=False,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        norm_cfg=dict(type='BN1d'),
    )


def _contrast(negatives, queue_size=12, temperature=0.2):
    torch.manual_seed(5)
    return PatchContrastLoss(negatives, DIMS, queue_size, temperature)


VIEWS = [(2, 3, 4)]


def _project(neck, x):
    """Linear, BatchNorm over the rows, ReLU, linear."""
    x = F.linear(x, neck.fc0.weight, neck.fc0.bias)
    x = (x - x.mean(0)) / (x.var(0, unbiased=False) + neck.bn0.eps).sqrt()
    x = F.relu(x * neck.bn0.weight + neck.bn0.bias)
    return F.linear(x, neck.fc1.weight, neck.fc1.bias)


def _unit(x):
    return x / x.pow(2).sum().sqrt()


@pytest.mark.parametrize('negatives', ['none', 'queue'])
@pytest.mark.parametrize('temperature', [0.2, 1.0])
def test_contrast__equals_loops(negatives, temperature):
    tokens, goals = _draw(VIEWS)
    head, teacher, predictor = (_neck(i) for i in range(3))
    module = _contrast(negatives, temperature=temperature)
    leaf = tokens[0].clone().requires_grad_()
    out = module(
        _groups([leaf], goals, VIEWS),
        head,
        teacher,
        predictor,
        torch.randn(6, DIMS),
    )
    out['patch_term'].backward()
    grads = [p.grad for n in (head, predictor) for p in n.parameters()]

    double = [deepcopy(n).double() for n in (head, teacher, predictor)]
    for neck in double:
        neck.zero_grad()
    plain = tokens[0].double().requires_grad_()
    losses, cosines = [], []
    for view in range(2):
        rows = plain[3 * view : 3 * view + 3].flatten(0, 1)
        goal = goals[0][3 * view : 3 * view + 3].flatten(0, 1).double()
        query = _project(double[2], _project(double[0], rows))
        key = _project(double[1], goal).detach()
        for q, k in zip(query, key):
            q, k = _unit(q), _unit(k)
            cosines.append((q @ k).item())
            if negatives == 'none':
                losses.append(2 - 2 * (q @ k))
                continue
            others = [q @ n for n in module.queue.double().t()]
            scores = torch.stack([q @ k, *others]) / temperature
            losses.append(scores.exp().sum().log() - scores[0])
    assert len(losses) == 24
    want = sum(losses) / 24
    torch.testing.assert_close(
        out['patch_term'].double(), want, rtol=1e-5, atol=1e-5
    )
    assert out['patch_cos'].item() == pytest.approx(
        sum(cosines) / 24, abs=1e-5
    )
    want.backward()
    torch.testing.assert_close(
        leaf.grad.double(), plain.grad, rtol=1e-3, atol=1e-5
    )
    expected = [p.grad for n in (double[0], double[2]) for p in n.parameters()]
    for own, other in zip(grads, expected):
        torch.testing.assert_close(own.double(), other, rtol=1e-3, atol=1e-5)
    assert all(p.grad is None for p in teacher.parameters())


def test_contrast__queue_holds_keys_of_global_vectors_in_order():
    """Three steps of 6 keys through a queue of 12."""
    tokens, goals = _draw(VIEWS)
    head, teacher, predictor = (_neck(i) for i in range(3))
    module = _contrast('queue')
    want = list(module.queue.t())
    place = 0
    for step in range(3):
        g = torch.Generator().manual_seed(step)
        vectors = torch.randn(6, DIMS, generator=g)
        before = module.queue.clone()
        module(
            _groups(tokens, goals, VIEWS), head, teacher, predictor, vectors
        )
        assert torch.equal(module.queue, before)
        for view in vectors.chunk(2):
            for key in _project(teacher, view):
                want[place] = _unit(key.detach())
                place = (place + 1) % 12
        module.after_step()
        assert module.queue_ptr.item() == place
        torch.testing.assert_close(
            module.queue.t(), torch.stack(want), rtol=1e-4, atol=1e-5
        )
    module.after_step()
    assert module.queue_ptr.item() == place


def test_contrast__accumulated_batches_enter_one_after_the_other():
    tokens, goals = _draw(VIEWS)
    necks = [_neck(i).eval() for i in range(3)]
    one, two = _contrast('queue', 24), _contrast('queue', 24)
    vectors = [torch.randn(6, DIMS) for _ in range(2)]
    for part in vectors:
        one(_groups(tokens, goals, VIEWS), *necks, part)
        one.after_step()
        two(_groups(tokens, goals, VIEWS), *necks, part)
    two.after_step()
    assert torch.equal(one.queue, two.queue)
    assert one.queue_ptr.item() == two.queue_ptr.item() == 12


@pytest.mark.parametrize('dtype', HALF)
@pytest.mark.parametrize('negatives', ['none', 'queue'])
def test_contrast__autocast_stays_near_float32(dtype, negatives):
    tokens, goals = _draw(VIEWS)
    vectors = torch.randn(6, DIMS)
    terms, queues = [], []
    for enabled in (False, True):
        necks = [_neck(i) for i in range(3)]
        module = _contrast(negatives)
        with torch.autocast('cpu', dtype=dtype, enabled=enabled):
            out = module(_groups(tokens, goals, VIEWS), *necks, vectors)
        module.after_step()
        assert out['patch_term'].dtype == torch.float32
        terms.append(out['patch_term'])
        queues.append(getattr(module, 'queue', torch.zeros(1)))
        assert queues[-1].dtype == torch.float32
    # four layers of rounding, over the temperature of 0.2
    tolerance = 4 * torch.finfo(dtype).eps / 0.2
    assert (terms[0] - terms[1]).abs() < tolerance
    assert (queues[0] - queues[1]).abs().max() < tolerance
    if negatives == 'queue':
        torch.testing.assert_close(
            queues[1].norm(dim=0), torch.ones(12), rtol=1e-5, atol=1e-5
        )


def test_contrast__state():
    assert set(_contrast('none').state_dict()) == set()
    module = _contrast('queue')
    assert set(module.state_dict()) == {'queue', 'queue_ptr'}
    torch.testing.assert_close(module.queue.norm(dim=0), torch.ones(12))
    tokens, goals = _draw(VIEWS)
    necks = [_neck(i) for i in range(3)]
    module(_groups(tokens, goals, VIEWS), *necks, torch.randn(6, DIMS))
    for copy in (deepcopy(module), pickle.loads(pickle.dumps(module))):
        copy.after_step()
        assert torch.equal(copy.queue, module.queue)
        assert copy.queue_ptr.item() == 0
    before = module.queue.clone()
    module.eval()
    module(_groups(tokens, goals, VIEWS), *necks, torch.randn(6, DIMS))
    module.train().after_step()
    # what was held before evaluation, and no more
    assert module.queue_ptr.item() == 6
    assert not torch.equal(module.queue, before)


def test_contrast__bad_input():
    tokens, goals = _draw(VIEWS)
    necks = [_neck(i) for i in range(3)]
    groups = _groups(tokens, goals, VIEWS)
    with pytest.raises(ValueError, match='model.patch_predictor'):
        _contrast('none')(groups, *necks[:2], None, torch.randn(6, DIMS))
    with pytest.raises(ValueError, match='queue_size=10 is not divisible'):
        _contrast('queue', 10)(groups, *necks, torch.randn(6, DIMS))
    with pytest.raises(ValueError, match="negatives='some'"):
        PatchContrastLoss('some')
    for kwargs in (dict(queue_size=0), dict(temperature=0.0)):
        with pytest.raises(ValueError, match='must be positive'):
            PatchContrastLoss(**kwargs)
