import math
import pickle
from copy import deepcopy

import pytest
import torch
from mmcv.cnn.bricks import DropPath
from torch import nn

from mmdense.models.backbones import SwinTransformer, VisionTransformer
from mmdense.models.utils.momentum_teacher import MomentumTeacher

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)


def _parts(seed=0):
    torch.manual_seed(seed)
    return {
        'backbone': nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)),
        'neck': nn.Linear(5, 3),
    }


def _teacher(parts, **kwargs):
    teacher = MomentumTeacher(**kwargs)
    for name, part in parts.items():
        teacher.add(name, part)
    return teacher


def _vit():
    return VisionTransformer(
        arch=ARCH,
        img_size=32,
        patch_size=8,
        out_type='tokens',
        drop_rate=0.3,
        drop_path_rate=0.5,
        layer_cfgs=dict(attn_drop_rate=0.4),
    )


def _swin():
    return SwinTransformer(
        arch=dict(embed_dims=12, depths=[2, 2], num_heads=[2, 4]),
        img_size=32,
        patch_size=4,
        window_size=4,
        drop_rate=0.3,
        drop_path_rate=0.5,
        stage_cfgs=dict(block_cfgs=dict(attn_cfgs=dict(attn_drop=0.4))),
    )


@pytest.mark.parametrize('start,end', [(0.996, 1.0), (0.99, 1.0), (0.5, 0.2)])
def test_momentum_at__is_half_a_cosine(start, end):
    teacher = MomentumTeacher(start, end)
    for done in range(11):
        want = end + (start - end) * (1 + math.cos(math.pi * done / 10)) / 2
        assert teacher.momentum_at(done / 10) == pytest.approx(want)
    assert teacher.momentum_at(0) == pytest.approx(start)
    assert teacher.momentum_at(1) == pytest.approx(end)


@pytest.mark.parametrize('progress', [0.0, 0.3, 0.99])
@pytest.mark.parametrize('start', [0.0, 0.9, 1.0])
def test_update__equals_the_formula(progress, start):
    parts = _parts()
    teacher = _teacher(parts, momentum=start, end_momentum=0.97)
    before = {k: v.clone() for k, v in teacher.named_parameters()}
    student = _parts(seed=1)
    for part in student.values():
        part.train()
    student['backbone'](torch.randn(8, 4))
    buffers = {
        k: v.clone() for k, v in teacher.named_buffers() if k != 'momentum'
    }
    teacher.update(student, progress)
    m = teacher.momentum_at(progress)
    flat = {
        f'{name}.{key}': value
        for name, part in student.items()
        for key, value in part.named_parameters()
    }
    assert set(flat) == set(before)
    for key, value in teacher.named_parameters():
        want = m * before[key].double() + (1 - m) * flat[key].double()
        torch.testing.assert_close(
            value.double(), want.detach(), rtol=1e-6, atol=1e-7
        )
    # statistics of BatchNorm are the copy's own
    assert len(buffers) == 3
    for key, value in teacher.named_buffers():
        if key != 'momentum':
            assert torch.equal(value, buffers[key])
    assert teacher.momentum.item() == pytest.approx(m)


def test_update__student_stays_and_order_of_the_parts_does_not_count():
    parts = _parts()
    teacher = _teacher(parts, momentum=0.5, end_momentum=0.5)
    student = _parts(seed=1)
    kept = deepcopy(student)
    other = deepcopy(teacher)
    teacher.update(student, 0.0)
    other.update(dict(reversed(list(student.items()))), 0.0)
    for a, b in zip(teacher.parameters(), other.parameters()):
        assert torch.equal(a, b)
    for name, part in student.items():
        for a, b in zip(part.parameters(), kept[name].parameters()):
            assert torch.equal(a, b)


def test_add__is_a_copy_that_is_never_trained():
    parts = _parts()
    teacher = _teacher(parts)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in parts['neck'].parameters())
    own = {id(p) for p in teacher.parameters()}
    assert not own & {id(p) for m in parts.values() for p in m.parameters()}
    for a, b in zip(teacher.neck.parameters(), parts['neck'].parameters()):
        assert torch.equal(a, b)
    teacher.train()
    teacher.copy_from(_parts(seed=1))
    teacher.update(_parts(seed=2), 0.2)
    assert not any(p.requires_grad for p in teacher.parameters())


def test_copy_from__takes_parameters_and_buffers():
    parts = _parts()
    teacher = _teacher(parts)
    student = _parts(seed=1)
    student['backbone'](torch.randn(8, 4))
    teacher.copy_from(student)
    for name, part in student.items():
        own = getattr(teacher, name).state_dict()
        for key, value in part.state_dict().items():
            assert torch.equal(own[key], value), key
            assert own[key].data_ptr() != value.data_ptr()


@pytest.mark.parametrize('build', [_vit, _swin])
def test_add__no_noise_in_training_mode(build):
    """Every source of noise: drop path, dropout, dropout of attention."""
    student = build()
    teacher = MomentumTeacher()
    teacher.add('backbone', student)
    student.train(), teacher.train()
    images = torch.randn(2, 3, 32, 32)

    def features(backbone):
        out = backbone(images)[-1]
        return getattr(out, 'patches', out)

    before = torch.get_rng_state()
    assert torch.equal(features(teacher.backbone), features(teacher.backbone))
    # nothing is drawn at all, so the student's draws do not depend on it
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(features(student), features(student))
    assert teacher.backbone.training
    # without the noise they are one function
    torch.testing.assert_close(
        features(student.eval()), features(teacher.backbone)
    )
    # the student still has its noise
    rates = [m.drop_prob for m in student.modules() if isinstance(m, DropPath)]
    assert max(rates) == pytest.approx(0.5)


@pytest.mark.parametrize(
    'layer,ndim',
    [
        (nn.Dropout, 2),
        (nn.Dropout1d, 3),
        (nn.Dropout2d, 4),
        (nn.Dropout3d, 5),
        (nn.AlphaDropout, 2),
        (nn.FeatureAlphaDropout, 4),
    ],
)
def test_add__every_dropout_layer_is_silent(layer, ndim):
    noisy = nn.Sequential(nn.Identity(), layer(0.5))
    teacher = MomentumTeacher()
    teacher.add('part', noisy)
    x = torch.randn(16, 8, 2, 2, 2)[(..., *[0] * (5 - ndim))]
    assert torch.equal(teacher.part(x), x)
    assert not torch.equal(noisy(x), x)


def test_add__attention_of_torch_is_silent():
    noisy = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
    teacher = MomentumTeacher()
    teacher.add('part', noisy)
    x = torch.randn(2, 9, 8)
    first, second = (teacher.part(x, x, x)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(noisy(x, x, x)[0], noisy(x, x, x)[0])


def test_pickle_and_deepcopy__keep_the_values_apart():
    parts = _parts()
    teacher = _teacher(parts, momentum=0.7, end_momentum=0.9)
    teacher.update(_parts(seed=1), 0.4)
    for copy in (deepcopy(teacher), pickle.loads(pickle.dumps(teacher))):
        assert copy.state_dict().keys() == teacher.state_dict().keys()
        for key, value in teacher.state_dict().items():
            assert torch.equal(copy.state_dict()[key], value)
        assert not any(p.requires_grad for p in copy.parameters())
        kept = teacher.neck.weight.clone()
        copy.update(_parts(seed=3), 0.4)
        assert torch.equal(teacher.neck.weight, kept)
        assert not torch.equal(copy.neck.weight, kept)


def test_state_dict__round_trip():
    teacher = _teacher(_parts(), momentum=0.5)
    teacher.update(_parts(seed=1), 0.3)
    state = teacher.state_dict()
    assert {'momentum', 'neck.weight', 'backbone.1.running_mean'} <= set(state)
    other = _teacher(_parts(seed=5), momentum=0.5)
    other.load_state_dict(state)
    for key, value in other.state_dict().items():
        assert torch.equal(value, state[key])


@pytest.mark.parametrize(
    'options', [dict(momentum=1.1), dict(momentum=-0.1), dict(end_momentum=2)]
)
def test_init__momentum_out_of_range(options):
    name = next(iter(options))
    with pytest.raises(ValueError, match=rf'teacher\.{name}='):
        MomentumTeacher(**options)
