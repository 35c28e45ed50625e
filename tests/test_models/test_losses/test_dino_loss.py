"""DINOLoss against a loop over teacher views, student views and images."""

import gc
import math
import pickle
import weakref
from copy import deepcopy

import numpy as np
import pytest
import torch

from mmdense.models.losses import DINOLoss
from mmdense.models.losses.dino_loss import _CrossViewEntropy

BATCH, WIDTH = 3, 7
# torch 2.1 has autocast to bfloat16 alone on the CPU
HALF = [torch.bfloat16, torch.float16]
HALF = HALF if hasattr(torch, 'get_autocast_dtype') else HALF[:1]


def _terms(student, teacher, center, temps, num_global):
    """Every term of the mean, in float64."""
    student_temp, teacher_temp = temps
    views = len(student) // BATCH
    terms = []
    for t in range(num_global):
        for s in range(views):
            if s == t:
                continue
            entropy = 0.0
            for b in range(BATCH):
                goal = (teacher[t * BATCH + b] - center) / teacher_temp
                p = goal.exp() / goal.exp().sum()
                logits = student[s * BATCH + b] / student_temp
                log_q = logits - logits.exp().sum().log()
                entropy = entropy - (p * log_q).sum()
            terms.append(entropy / BATCH)
    return terms


def _logits(views, teachers, seed=0):
    g = torch.Generator().manual_seed(seed)
    student = torch.randn(views * BATCH, WIDTH, generator=g) * 0.3
    teacher = torch.randn(teachers * BATCH, WIDTH, generator=g) * 0.1
    return student, teacher


def _module(**kwargs):
    module = DINOLoss(WIDTH, **kwargs)
    module.center.copy_(torch.randn(1, WIDTH) * 0.1)
    return module


@pytest.mark.parametrize('views', range(2, 11))
@pytest.mark.parametrize('num_global', [1, 2])
@pytest.mark.parametrize('seen', ['global', 'all'])
def test_forward__equals_loops(views, num_global, seen):
    teachers = views if seen == 'all' else num_global
    student, teacher = _logits(views, teachers)
    module = _module(student_temp=0.2, teacher_temp=0.07)
    leaf = student.clone().requires_grad_()
    out = module(leaf, teacher, BATCH, num_global)
    plain = student.double().requires_grad_()
    terms = _terms(
        plain,
        teacher.double(),
        module.center[0].double(),
        (0.2, module.teacher_temp.double()),
        num_global,
    )
    assert len(terms) == num_global * (views - 1)
    want = sum(terms) / len(terms)
    torch.testing.assert_close(
        out['loss'].double(), want, rtol=1e-5, atol=1e-6
    )
    out['loss'].backward()
    want.backward()
    torch.testing.assert_close(
        leaf.grad.double(), plain.grad, rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize('views,count', [(10, 18), (2, 2)])
def test_terms__as_many_as_the_spec_says(views, count):
    """Terms counted through the loss: each is log K for a flat student."""
    student, teacher = _logits(views, 2)
    module = _module()
    x = torch.zeros(views, BATCH, WIDTH)
    p = ((teacher - module.center) / 0.04).softmax(dim=1)
    total = _CrossViewEntropy.apply(x, p.view(2, BATCH, WIDTH))
    each = BATCH * math.log(WIDTH)
    assert total.item() / each == pytest.approx(count, rel=1e-5)
    out = module(x.flatten(0, 1), teacher, BATCH)
    assert out['loss'].item() == pytest.approx(math.log(WIDTH), rel=1e-5)


@pytest.mark.parametrize('views,num_global', [(2, 2), (4, 2), (3, 1), (2, 3)])
def test_cross_view_entropy__gradcheck(views, num_global):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(
        views, 2, 5, generator=g, dtype=torch.float64, requires_grad=True
    )
    p = torch.randn(num_global, 2, 5, generator=g, dtype=torch.float64)
    p = p.softmax(dim=-1)
    kept = p.clone()
    assert torch.autograd.gradcheck(_CrossViewEntropy.apply, (x, p))
    assert torch.equal(p, kept)


def test_forward__upstream_factor_reaches_the_gradient():
    student, teacher = _logits(4, 2)
    module = _module()
    grads = []
    for factor in (1, 65536):
        leaf = student.clone().requires_grad_()
        (module(leaf, teacher, BATCH)['loss'] * factor).backward()
        grads.append(leaf.grad)
    # a power of two is exact
    assert torch.equal(grads[0] * 65536, grads[1])
    assert grads[0].abs().max() > 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_forward__computes_in_float32_whatever_comes(dtype):
    student, teacher = _logits(4, 2)
    student, teacher = student.to(dtype), teacher.to(dtype)
    module = _module()
    want = deepcopy(module)
    inside = HALF[-1] if dtype in HALF else HALF[0]
    leaf = student.clone().requires_grad_()
    with torch.autocast('cpu', dtype=inside):
        got = module(leaf, teacher, BATCH)
    plain = student.float().requires_grad_()
    full = want(plain, teacher.float(), BATCH)
    for name, value in got.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, full[name]), name
    got['loss'].backward()
    full['loss'].backward()
    assert torch.equal(leaf.grad, plain.grad.to(dtype))
    module.after_step(), want.after_step()
    assert torch.equal(module.center, want.center)


@pytest.mark.parametrize('scale', [0.0, 1e-6, 1e4])
def test_forward__is_finite_for_extreme_logits(scale):
    student, teacher = (x * scale for x in _logits(4, 2))
    leaf = student.requires_grad_()
    out = DINOLoss(WIDTH)(leaf, teacher, BATCH)
    out['loss'].backward()
    assert all(torch.isfinite(value) for value in out.values())
    assert torch.isfinite(leaf.grad).all()


def test_forward__only_the_loss_has_a_gradient():
    student, teacher = _logits(4, 2)
    teacher.requires_grad_()
    out = _module()(student.requires_grad_(), teacher, BATCH)
    assert [k for k, v in out.items() if v.requires_grad] == ['loss']
    out['loss'].backward()
    assert teacher.grad is None
    assert [k for k in out if 'loss' in k] == ['loss']


def test_monitors__equal_loops():
    student, teacher = _logits(4, 2)
    module = _module()
    out = module(student, teacher, BATCH)
    p = ((teacher - module.center).double() / 0.04).softmax(dim=1)
    entropy = -sum(v * math.log(v) for v in p.flatten().tolist()) / len(p)
    joint = -sum(v * math.log(v) for v in p.mean(dim=0).tolist())
    assert out['teacher_entropy'].item() == pytest.approx(
        entropy / math.log(WIDTH), rel=1e-4
    )
    assert out['teacher_information'].item() == pytest.approx(
        (joint - entropy) / math.log(BATCH), rel=1e-4
    )
    norm = math.sqrt(sum(v * v for v in module.center[0].tolist()))
    assert out['center_norm'].item() == pytest.approx(norm, rel=1e-5)


# centre ---------------------------------------------------------------------


@pytest.mark.parametrize('seen', [2, 5])
def test_center__one_step_from_zero_is_a_tenth_of_the_mean(seen):
    module = DINOLoss(WIDTH)
    student, teacher = _logits(5, seen)
    module(student, teacher, BATCH)
    assert module.center.abs().max() == 0
    module.after_step()
    want = [
        0.1 * sum(row[k] for row in teacher.tolist()) / (seen * BATCH)
        for k in range(WIDTH)
    ]
    torch.testing.assert_close(module.center[0], torch.tensor(want))


@pytest.mark.parametrize('momentum', [0.0, 0.5, 1.0])
def test_center__moves_by_its_momentum_once(momentum):
    module = _module(center_momentum=momentum)
    start = module.center.clone()
    student, teacher = _logits(3, 2)
    module(student, teacher, BATCH)
    module.after_step()
    want = momentum * start + (1 - momentum) * teacher.mean(dim=0)
    torch.testing.assert_close(module.center, want)
    for _ in range(2):
        module.after_step()
        torch.testing.assert_close(module.center, want)


def test_center__accumulated_batches_act_as_one():
    """Also when they hold different numbers of images."""
    module, joint = DINOLoss(WIDTH), DINOLoss(WIDTH)
    student, teacher = _logits(4, 2)
    views = student.view(4, BATCH, WIDTH), teacher.view(2, BATCH, WIDTH)
    for part in (slice(0, 1), slice(1, 3)):
        own = [v[:, part].flatten(0, 1) for v in views]
        module(*own, part.stop - part.start)
    joint(student, teacher, BATCH)
    for loss in (module, joint):
        loss.after_step()
    torch.testing.assert_close(module.center, joint.center)
    # the next step starts anew
    _, other = _logits(4, 2, seed=1)
    for loss in (module, joint):
        loss(student, other, BATCH)
        loss.after_step()
    torch.testing.assert_close(module.center, joint.center)


def test_center__evaluation_leaves_no_trace():
    module = _module().eval()
    before = module.center.clone()
    module(*_logits(3, 2), BATCH)
    module.train().after_step()
    assert torch.equal(module.center, before)


def test_center__of_a_later_loss_uses_the_moved_centre():
    module = DINOLoss(WIDTH)
    student, teacher = _logits(3, 2)
    first = module(student, teacher, BATCH)['loss']
    # accumulated batches see one centre
    assert torch.equal(module(student, teacher, BATCH)['loss'], first)
    module.after_step()
    assert module(student, teacher, BATCH)['loss'] != first


def test_state__copies_leave_out_what_is_held():
    module = _module()
    module(*_logits(3, 2), BATCH)
    for copy in (deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(copy.center, module.center)
        copy.after_step()
        assert torch.equal(copy.center, module.center)
    assert set(module.state_dict()) == {'center', 'teacher_temp'}
    before = module.center.clone()
    module.after_step()
    assert not torch.equal(module.center, before)


# temperature ----------------------------------------------------------------


@pytest.mark.parametrize('warmup', [0, 1, 2, 3, 30])
def test_set_epoch__equals_linspace(warmup):
    module = DINOLoss(
        WIDTH,
        teacher_temp=0.07,
        warmup_teacher_temp=0.04,
        warmup_teacher_temp_epochs=warmup,
    )
    epochs = 40
    table = np.concatenate(
        (np.linspace(0.04, 0.07, warmup), np.full(epochs - warmup, 0.07))
    )
    assert module.teacher_temp.item() == pytest.approx(table[0])
    for epoch in range(epochs):
        module.set_epoch(epoch)
        assert module.teacher_temp.item() == pytest.approx(table[epoch])


def test_set_epoch__changes_the_loss():
    module = DINOLoss(
        WIDTH, warmup_teacher_temp=0.5, warmup_teacher_temp_epochs=2
    )
    student, teacher = _logits(2, 2)
    for epoch, temp in ((0, 0.5), (1, 0.04), (7, 0.04)):
        module.set_epoch(epoch)
        terms = _terms(
            student.double(),
            teacher.double(),
            torch.zeros(WIDTH, dtype=torch.float64),
            (0.1, temp),
            2,
        )
        got = module(student, teacher, BATCH)['loss'].double()
        want = sum(terms) / len(terms)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


# memory ---------------------------------------------------------------------


def test_forward__keeps_one_tensor_of_the_size_of_the_logits():
    class Held:
        def __init__(self, tensor):
            self.tensor = tensor

    live = weakref.WeakSet()

    def pack(tensor):
        held = Held(tensor)
        live.add(held)
        return held

    width, batch = 512, 4
    module = DINOLoss(width)
    student = torch.randn(6 * batch, width, requires_grad=True)
    teacher = torch.randn(2 * batch, width)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda h: h.tensor):
        out = module(student * 1.0, teacher, batch)
    gc.collect()
    kept = {
        h.tensor.untyped_storage().data_ptr(): h.tensor.numel() for h in live
    }
    assert sum(kept.values()) <= student.numel() + 8
    out['loss'].backward()
    assert student.grad.abs().max() > 0


# bad input ------------------------------------------------------------------


@pytest.mark.parametrize(
    'student,teacher,batch',
    [
        ((7, WIDTH), (6, WIDTH), 3),
        ((3, WIDTH), (3, WIDTH), 3),
        ((6, WIDTH + 1), (6, WIDTH), 3),
        ((6, WIDTH), (6, WIDTH + 1), 3),
        ((6, WIDTH), (3, WIDTH), 3),
    ],
)
def test_forward__shapes_that_do_not_fit(student, teacher, batch):
    with pytest.raises(ValueError, match='do not fit 3 images') as caught:
        DINOLoss(WIDTH)(torch.zeros(student), torch.zeros(teacher), batch)
    assert str(student) in str(caught.value)


@pytest.mark.parametrize(
    'name,value',
    [
        ('student_temp', 0),
        ('teacher_temp', -0.1),
        ('warmup_teacher_temp', 0),
        ('center_momentum', 1.5),
    ],
)
def test_init__values_out_of_range(name, value):
    with pytest.raises(ValueError, match=f'{name}={value}'):
        DINOLoss(WIDTH, **{name: value})
