"""MoBY against loops, one view at a time."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope

import mmdense  # noqa: F401
from mmdense.registry import MODELS

VIT = dict(
    type='mmdense.VisionTransformer',
    arch=dict(
        embed_dims=12, num_layers=2, num_heads=2, feedforward_channels=24
    ),
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
BATCH, DIMS = 4, 6


def _projector(inputs):
    return dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=inputs,
        hid_channels=16,
        out_channels=DIMS,
        with_avg_pool=False,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        norm_cfg=dict(type='BN1d'),
    )


def _build(backbone=VIT, queue_size=16, **kwargs):
    init_default_scope('mmdense')
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='mmdense.MoBY',
            backbone=backbone,
            neck=_projector(12),
            predictor=_projector(DIMS),
            loss=dict(
                type='mmdense.MoBYLoss', channels=DIMS, queue_size=queue_size
            ),
            **kwargs,
        )
    )
    model.init_weights()
    g = torch.Generator().manual_seed(7)
    with torch.no_grad():
        # a momentum encoder of its own; features that differ
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=g))
    return model


def _views(batch=BATCH, seed=1):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 3, 32, 32, generator=g) for _ in range(2)]


def _vectors(backbone, view):
    out = backbone(view)[-1]
    if isinstance(out, torch.Tensor):
        return out.mean(dim=(2, 3))
    return out.patches.mean(dim=1) if out.cls is None else out.cls


def _project(neck, x):
    """Linear, BatchNorm over the batch, ReLU, linear."""
    x = F.linear(x, neck.fc0.weight, neck.fc0.bias)
    x = (x - x.mean(0)) / (x.var(0, unbiased=False) + neck.bn0.eps).sqrt()
    x = F.relu(x * neck.bn0.weight + neck.bn0.bias)
    return F.linear(x, neck.fc1.weight, neck.fc1.bias)


def _reference(model, views):
    """Loss, keys."""
    queues = model.loss_module.queue1, model.loss_module.queue2
    preds = [
        _project(
            model.predictor,
            _project(model.neck, _vectors(model.backbone, view)),
        )
        for view in views
    ]
    with torch.no_grad():
        keys = [
            F.normalize(
                _project(
                    model.teacher.neck,
                    _vectors(model.teacher.backbone, view),
                )
            )
            for view in views
        ]
    total = 0.0
    for own, other in ((0, 1), (1, 0)):
        for pred, key in zip(preds[own], keys[other]):
            q = pred / pred.norm()
            scores = [q @ key] + [q @ n for n in queues[other].t()]
            scores = torch.stack(scores) / 0.2
            total = total - scores.log_softmax(0)[0] / len(views[0])
    return total, keys


def _gradients(model):
    found = {
        n: p.grad for n, p in model.named_parameters() if p.grad is not None
    }
    model.zero_grad()
    return found


@pytest.mark.parametrize(
    'backbone', [VIT, {**VIT, 'with_cls_token': False}, SWIN]
)
def test_loss__equals_loops(backbone):
    model = _build(backbone)
    views = _views()
    out = model.loss(views, None)
    out['loss'].backward()
    got = _gradients(model)
    want, keys = _reference(model, views)
    torch.testing.assert_close(out['loss'], want, rtol=1e-4, atol=1e-5)
    want.backward()
    exact = _gradients(model)
    assert set(got) == set(exact)
    assert not [k for k in got if k.startswith('teacher')]
    for name, value in exact.items():
        torch.testing.assert_close(
            got[name], value, rtol=1e-2, atol=2e-4, msg=name
        )
    model.after_step(0.0)
    for queue, key in zip(('queue1', 'queue2'), keys):
        torch.testing.assert_close(
            getattr(model.loss_module, queue)[:, :BATCH].t(),
            key,
            rtol=1e-4,
            atol=1e-4,
        )


def test_loss__batch_norm_sees_one_view_at_a_time():
    """A view moves nothing in the keys and predictions of the other."""
    model = _build()
    views = _views()
    seen = []
    model.loss_module.forward = lambda *x: (
        seen.append(x) or {'loss': x[0].sum()}
    )
    model.loss(views, None)
    model.loss([views[0], views[1] * 3], None)
    (p1, p2, k1, k2), (q1, q2, n1, n2) = seen
    torch.testing.assert_close(p1, q1, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(k1, n1, rtol=1e-4, atol=1e-5)
    assert (p2 - q2).abs().max() > 0.01 and (k2 - n2).abs().max() > 0.01


def test_steps__momentum_encoder_moves_before_its_keys():
    model = _build()
    views = _views()
    assert model.teacher.start_momentum == 0.99
    model.before_step(0.4)
    _, want = _reference(model, views)
    model.loss(views, None)
    model.after_step(0.4)
    torch.testing.assert_close(
        model.loss_module.queue1[:, :BATCH].t(), want[0], rtol=1e-4, atol=1e-4
    )
    state = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    model.after_step(0.5)
    for key, value in model.teacher.state_dict().items():
        assert torch.equal(value, state[key])


def test_drop_path__acts_on_the_online_side_only():
    model = _build({**VIT, 'drop_path_rate': 0.5})
    views = _views()
    seen = []
    model.loss_module.forward = lambda *x: (
        seen.append(x) or {'loss': x[0].sum()}
    )
    for _ in range(2):
        model.loss(views, None)
    assert torch.equal(seen[0][2], seen[1][2])
    assert not torch.equal(seen[0][0], seen[1][0])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_loss__autocast_stays_near_float32(dtype):
    if dtype == torch.float16 and not hasattr(torch, 'get_autocast_dtype'):
        dtype = torch.bfloat16  # torch 2.1 has no other on the CPU
    model, views = _build(), _views()
    want = model.loss(views, None)['loss']
    with torch.autocast('cpu', dtype=dtype):
        got = model.loss(views, None)['loss']
    got.backward()
    # a dozen roundings, over the temperature
    tolerance = 12 * torch.finfo(dtype).eps / 0.2
    assert got.dtype == torch.float32
    assert (got - want).abs() < tolerance
    assert all(torch.isfinite(g).all() for g in _gradients(model).values())


def test_loss__bad_input():
    model = _build()
    with pytest.raises(ValueError, match='two views, the pipeline gives 3'):
        model.loss([*_views(), _views()[0]], None)
    with pytest.raises(ValueError, match='batch_size to 2 or more'):
        model.loss(_views(batch=1), None)
    with pytest.raises(ValueError, match=r'numbers of images: \[4, 3\]'):
        model.loss([_views()[0], _views(batch=3)[1]], None)
    with pytest.raises(ValueError, match='must have one size'):
        model.loss([_views()[0], _views()[1][..., :24, :24]], None)
    with pytest.raises(ValueError, match='queue_size=16 is not divisible'):
        model.loss(_views(batch=3), None)
    # statistics are fixed in evaluation
    assert torch.isfinite(model.eval().loss(_views(batch=1), None)['loss'])
