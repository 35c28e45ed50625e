import pytest
import torch
from mmengine.registry import init_default_scope
from torch.nn.parallel import DistributedDataParallel

import mmdense  # noqa: F401
from mmdense.registry import MODELS
from mmdense.testing.distributed import run_distributed

ARCH = {
    'embed_dims': 24,
    'num_layers': 2,
    'num_heads': 3,
    'feedforward_channels': 48,
}


def _config(**loss):
    return {
        'type': 'mmdense.LocalGlobal',
        'data_preprocessor': {
            'type': 'mmpretrain.SelfSupDataPreprocessor',
            'mean': [127.5] * 3,
            'std': [127.5] * 3,
        },
        'backbone': {
            'type': 'mmpretrain.VisionTransformer',
            'arch': ARCH,
            'img_size': 32,
            'patch_size': 16,
            'out_type': 'raw',
        },
        'neck': {
            'type': 'mmdense.TokenProjector',
            'in_channels': 24,
            'hid_channels': 32,
            'out_channels': 16,
        },
        'head': {
            'type': 'mmdense.LocalGlobalHead',
            'loss': {'type': 'mmdense.LocalGlobalLoss', **loss},
        },
    }


def _build(**loss):
    init_default_scope('mmdense')
    torch.manual_seed(0)
    model = MODELS.build(_config(**loss))
    model.init_weights()
    return model


def _views(batch=3, size=32, seed=1):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 3, size, size, generator=g) for _ in range(2)]


def test_loss__is_the_loss_of_projected_tokens():
    model = _build()
    views = _views()
    out = model.loss(views, None)
    projected = []
    for view in views:
        tokens = model.backbone(view)[0]
        projected += model.neck(tokens[:, 0], tokens[:, 1:])
    z1, p1, z2, p2 = projected
    want = model.head.loss_module(z1, p1, z2, p2)['loss']
    torch.testing.assert_close(out['loss'], want)
    assert p1.shape == (3, 4, 16)


def test_loss__reaches_every_parameter():
    model = _build()
    model.loss(_views(), None)['loss'].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_loss__views_of_different_size():
    model = _build()
    views = [_views(size=32)[0], _views(size=48)[1]]
    out = model.loss(views, None)
    assert torch.isfinite(out['loss'])


def test_train_step__learns_and_logs():
    """Every image alone has its colours: the loss falls far below chance."""
    model = _build()
    from mmengine.optim import OptimWrapper

    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=3e-3))
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 1, 1), generator=g)
    losses = []
    for step in range(100):
        noise = torch.Generator().manual_seed(step)
        batch = [
            (images + torch.randint(-9, 9, (8, 3, 32, 32), generator=noise))
            .clamp(0, 255)
            .to(torch.uint8)
            for _ in range(2)
        ]
        log = model.train_step(
            {'inputs': batch, 'data_samples': None}, wrapper
        )
        losses.append(log['loss'].item())
    chance = torch.log(torch.tensor(1 + 7 * 4.0)).item()
    assert losses[-1] < 0.4 * chance
    assert log['pos_cos'] > log['neg_cos'] + 0.5
    for name in ('direction_12', 'direction_21', 'acc', 'std_local'):
        assert torch.isfinite(log[name])


def test_loss__autocast_keeps_it_in_float32():
    model = _build()
    views = _views()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = model.loss(views, None)['loss']
    full = model.loss(views, None)['loss']
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.1)


def test_init__wrong_backbone_output_is_explained():
    config = _config()
    config['backbone']['out_type'] = 'cls_token'
    with pytest.raises(ValueError, match="out_type='raw'"):
        MODELS.build(config)


def test_loss__three_views_are_refused():
    model = _build()
    with pytest.raises(ValueError, match='two views, got 3'):
        model.loss([*_views(), _views()[0]], None)


class _Loss(torch.nn.Module):
    """DDP calls forward."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, views):
        return self.model.loss(views, None)['loss']


def _ddp_step(rank, world_size, static_graph):

    views = [v[2 * rank : 2 * rank + 2] for v in _views(batch=4)]
    net = DistributedDataParallel(
        _Loss(_build(gather=True)), static_graph=static_graph
    )
    for _ in range(2):
        net.zero_grad()
        loss = net(views)
        loss.backward()
    return loss.item(), [p.grad.numpy() for p in net.parameters()]


@pytest.mark.dist
@pytest.mark.parametrize('static_graph', [False, True])
def test_loss__two_processes_train_as_one_with_the_joint_batch(static_graph):
    results = run_distributed(_ddp_step, 2, static_graph)
    model = _build()
    loss = model.loss(_views(batch=4), None)['loss']
    loss.backward()
    assert sum(r[0] for r in results) / 2 == pytest.approx(
        loss.item(), rel=1e-5
    )
    for got, parameter in zip(results[0][1], model.parameters()):
        torch.testing.assert_close(
            torch.from_numpy(got), parameter.grad, rtol=1e-3, atol=1e-5
        )
