"""DINO against a double loop over crops, one crop at a time."""

from copy import deepcopy

import pytest
import torch
from mmengine.registry import init_default_scope

import mmdense  # noqa: F401
from mmdense.registry import MODELS

ARCH = dict(embed_dims=12, num_layers=2, num_heads=2, feedforward_channels=24)
VIT = dict(
    type='mmdense.VisionTransformer',
    arch=ARCH,
    img_size=32,
    patch_size=8,
    out_type='tokens',
)
SWIN = dict(
    type='mmdense.SwinTransformer',
    arch=dict(embed_dims=6, depths=[1, 1], num_heads=[1, 2]),
    img_size=32,
    window_size=4,
    drop_path_rate=0.0,
)
POOL = dict(type='mmdense.ClassAttentionPooling', embed_dims=12, num_heads=2)
BACKBONES = {
    'vit': VIT,
    'vit_without_cls': {**VIT, 'with_cls_token': False},
    'vit_patch16': {**VIT, 'patch_size': 16},
    'swin': SWIN,
}
BATCH, WIDTH = 3, 20


def _build(backbone=VIT, **kwargs):
    init_default_scope('mmdense')
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='mmdense.DINO',
            backbone=backbone,
            neck=dict(
                type='mmdense.DINOHead',
                in_channels=12,
                out_channels=WIDTH,
                hid_channels=16,
                bottleneck_channels=8,
                norm_last_layer=False,
            ),
            loss=dict(type='mmdense.DINOLoss', out_channels=WIDTH),
            **kwargs,
        )
    )
    model.init_weights()
    g = torch.Generator().manual_seed(7)
    with torch.no_grad():
        # a teacher and a centre of their own; features that differ
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=g))
        model.loss_module.center.copy_(
            0.1 * torch.randn(1, WIDTH, generator=g)
        )
    return model


def _crops(batch=BATCH, sizes=(32, 32, 16, 16, 16), seed=1):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 3, s, s, generator=g) for s in sizes]


def _vectors(parts, crop, pooled):
    """Global vectors of one crop."""
    out = parts.backbone(crop)[-1]
    if isinstance(out, torch.Tensor):
        tokens, cls = out.flatten(2).transpose(1, 2), None
    else:
        tokens, cls = out.patches, out.cls
    if pooled:
        return parts.pool(tokens)
    return tokens.mean(dim=1) if cls is None else cls


def _reference(model, crops, num_global=2):
    """Terms of the loss; teacher outputs of every crop."""
    pooled = model.pool is not None
    with torch.no_grad():
        goals = [
            model.teacher.neck(_vectors(model.teacher, crop, pooled))
            for crop in crops
        ]
    logits = [model.neck(_vectors(model, crop, pooled)) for crop in crops]
    center, temp = model.loss_module.center, model.loss_module.teacher_temp
    terms = []
    for t in range(num_global):
        p = ((goals[t] - center) / temp).softmax(dim=1)
        for s in range(len(crops)):
            if s != t:
                log_q = (logits[s] / 0.1).log_softmax(dim=1)
                terms.append(-(p * log_q).sum(dim=1).mean())
    return terms, goals


def _gradients(model):
    found = {
        n: p.grad for n, p in model.named_parameters() if p.grad is not None
    }
    model.zero_grad()
    return found


def _same_gradients(got, want):
    assert set(got) == set(want)
    for name, value in want.items():
        torch.testing.assert_close(
            got[name], value, rtol=1e-3, atol=1e-5, msg=name
        )


@pytest.mark.parametrize('name', list(BACKBONES))
@pytest.mark.parametrize('pool', [None, POOL])
@pytest.mark.parametrize('center_crops', ['global', 'all'])
def test_loss__equals_loops(name, pool, center_crops):
    model = _build(BACKBONES[name], pool=pool, center_crops=center_crops)
    crops = _crops()
    center = model.loss_module.center.clone()
    out = model.loss(crops, None)
    out['loss'].backward()
    got = _gradients(model)
    terms, goals = _reference(model, crops)
    assert len(terms) == 2 * 4
    want = sum(terms) / len(terms)
    torch.testing.assert_close(out['loss'], want, rtol=1e-5, atol=1e-5)
    want.backward()
    _same_gradients(got, _gradients(model))
    assert not [k for k in got if k.startswith('teacher')]

    model.after_step(0.0)
    seen = goals if center_crops == 'all' else goals[:2]
    moved = 0.9 * center + 0.1 * torch.cat(seen).mean(dim=0)
    torch.testing.assert_close(
        model.loss_module.center, moved, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    'sizes,count',
    [
        ((32, 32), 2),
        ((32, 32, *[16] * 8), 18),
        # all of one size, and of three
        ((32,) * 4, 6),
        ((32, 32, 24, 16, 16), 8),
    ],
)
def test_loss__numbers_and_sizes_of_crops(sizes, count):
    model = _build()
    crops = _crops(sizes=sizes)
    terms, _ = _reference(model, crops)
    assert len(terms) == count
    torch.testing.assert_close(
        model.loss(crops, None)['loss'],
        sum(terms) / count,
        rtol=1e-5,
        atol=1e-5,
    )


def test_loss__one_global_crop():
    model = _build(num_global=1)
    crops = _crops(sizes=(32, 16, 16))
    terms, goals = _reference(model, crops, num_global=1)
    assert len(terms) == 2
    out = model.loss(crops, None)['loss']
    torch.testing.assert_close(out, sum(terms) / 2, rtol=1e-5, atol=1e-5)
    center = model.loss_module.center.clone()
    model.after_step(0.0)
    torch.testing.assert_close(
        model.loss_module.center,
        0.9 * center + 0.1 * goals[0].mean(dim=0),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_loss__autocast_stays_near_float32(dtype):
    """Errors of the teacher's logits count 1 / 0.04 times."""
    if dtype == torch.float16 and not hasattr(torch, 'get_autocast_dtype'):
        dtype = torch.bfloat16  # torch 2.1 has no other on the CPU
    model = _build(pool=POOL)
    crops = _crops()
    want = model.loss(crops, None)
    want['loss'].backward()
    exact = _gradients(model)
    with torch.autocast('cpu', dtype=dtype):
        got = model.loss(crops, None)
    got['loss'].backward()
    assert got['loss'].dtype == torch.float32
    tolerance = 2 * torch.finfo(dtype).eps / 0.04
    assert (got['loss'] - want['loss']).abs() < tolerance * want['loss']
    half = _gradients(model)
    assert set(half) == set(exact)
    total = sum(v.square().sum() for v in exact.values()).sqrt()
    error = sum((half[k] - exact[k]).square().sum() for k in exact).sqrt()
    assert error < 2 * tolerance * total
    # the scaler's factor is exact
    with torch.autocast('cpu', dtype=dtype):
        (model.loss(crops, None)['loss'] * 1024).backward()
    for name, value in _gradients(model).items():
        torch.testing.assert_close(
            value / 1024, half[name], rtol=2e-2, atol=1e-3 * float(total)
        )


def test_steps__accumulated_half_batches_are_one_batch():
    """Centre, gradients (as means) and teacher."""
    one, two = _build(), _build()
    crops = _crops(batch=4)
    halves = [[c[i : i + 2] for c in crops] for i in (0, 2)]
    one.before_step(0.2), two.before_step(0.2)
    one.loss(crops, None)['loss'].backward()
    for half in halves:
        (two.loss(half, None)['loss'] / 2).backward()
    _same_gradients(_gradients(two), _gradients(one))
    for model in (one, two):
        model.after_step(0.2)
    for key, value in one.state_dict().items():
        torch.testing.assert_close(
            two.state_dict()[key], value, rtol=1e-4, atol=1e-6, msg=key
        )


def test_drop_path__acts_on_the_student_only():
    model = _build({**VIT, 'drop_path_rate': 0.5})
    crops = _crops()
    losses, goals = [], []
    model.loss_module.hold = lambda total, rows: goals.append(total)
    for _ in range(2):
        losses.append(model.loss(crops, None)['loss'])
    assert losses[0] != losses[1]
    assert torch.equal(goals[0], goals[1])


def test_set_epoch__sets_the_temperature():
    model = _build()
    loss = model.loss_module
    loss.first_temp, loss.final_temp, loss.warmup_epochs = 0.04, 0.07, 4
    for epoch, want in ((0, 0.04), (1, 0.05), (3, 0.07), (9, 0.07)):
        model.set_epoch(epoch)
        assert loss.teacher_temp.item() == pytest.approx(want)


def test_monitors__of_the_first_crop():
    model = _build()
    crops = _crops()
    out = model.loss(crops, None)
    features = model.monitored['global']
    torch.testing.assert_close(
        features, model.backbone(crops[0])[-1].cls, rtol=1e-5, atol=1e-5
    )
    assert not features.requires_grad
    unit = torch.nn.functional.normalize(features, dim=1)
    spread = unit.var(dim=0, unbiased=False).sqrt().mean() * 12**0.5
    torch.testing.assert_close(out['std_global'], spread)
    assert [k for k, v in out.items() if v.requires_grad] == ['loss']
    assert [k for k in out if 'loss' in k] == ['loss']
    assert all(v.ndim == 0 for v in out.values())


def test_monitors__tell_a_collapse():
    model = _build()
    with torch.no_grad():
        for part in (model.neck, model.teacher.neck):
            part.mlp[-1].weight.zero_()
            part.mlp[-1].bias.fill_(1.0)
    out = model.loss(_crops(), None)
    assert out['teacher_information'].abs() < 1e-4
    assert _build().loss(_crops(), None)['teacher_information'] > 0.05


def test_eval__holds_nothing():
    model = _build().eval()
    before = deepcopy(model.loss_module.state_dict())
    model.loss(_crops(), None)
    model.train().after_step(0.0)
    assert torch.equal(model.loss_module.center, before['center'])


def test_init__options_that_do_not_fit():
    with pytest.raises(ValueError, match="center_crops='local'"):
        _build(center_crops='local')
    init_default_scope('mmdense')
    with pytest.raises(ValueError, match='neck.out_channels=8'):
        MODELS.build(
            dict(
                type='mmdense.DINO',
                backbone=VIT,
                neck=dict(
                    type='mmdense.DINOHead', in_channels=12, out_channels=8
                ),
                loss=dict(type='mmdense.DINOLoss', out_channels=9),
            )
        )
