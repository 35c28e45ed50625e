"""Two gloo processes with half the batch against one with all of it."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

import mmdense  # noqa: F401
from mmdense.models.losses import MoBYLoss
from mmdense.registry import MODELS
from mmdense.testing.distributed import run_distributed

BATCH, DIMS = 4, 6
VIT = dict(
    type='mmdense.VisionTransformer',
    arch=dict(
        embed_dims=12, num_layers=1, num_heads=2, feedforward_channels=24
    ),
    img_size=32,
    patch_size=8,
    out_type='tokens',
    with_cls_token=False,
    final_norm=False,
)
POOL = dict(type='mmdense.ClassAttentionPooling', embed_dims=12, num_heads=2)


def _head(width):
    return dict(
        type='mmdense.DINOHead',
        in_channels=12,
        out_channels=width,
        hid_channels=16,
        bottleneck_channels=8,
    )


def _projector(inputs):
    return dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=inputs,
        hid_channels=16,
        out_channels=DIMS,
        with_avg_pool=False,
        with_last_bn=False,
        norm_cfg=dict(type='BN1d'),
    )


DINO = dict(
    type='mmdense.DINO',
    backbone=VIT,
    neck=_head(20),
    loss=dict(type='mmdense.DINOLoss', out_channels=20),
    center_crops='all',
)
MOBY = dict(
    type='mmdense.MoBY',
    backbone=VIT,
    neck=_projector(12),
    predictor=_projector(DIMS),
    loss=dict(type='mmdense.MoBYLoss', channels=DIMS, queue_size=16),
)
CONFIGS = {
    'dino': DINO,
    'selfpatch': dict(
        type='mmdense.SelfPatch',
        method=DINO,
        aggregation=POOL,
        patch_head=_head(14),
        patch_loss=dict(
            type='mmdense.PatchDistillationLoss',
            out_channels=14,
            chunk_size=20,
        ),
    ),
    'moby': dict(
        type='mmdense.SelfPatch',
        method=MOBY,
        aggregation=POOL,
        patch_head=_projector(12),
        patch_predictor=_projector(DIMS),
        patch_loss=dict(
            type='mmdense.PatchContrastLoss', channels=DIMS, queue_size=16
        ),
    ),
}


class _Loss(nn.Module):
    """DDP calls forward."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, crops):
        out = self.model.loss(crops, None)
        return sum(v for k, v in out.items() if 'loss' in k)


def _build(name):
    init_default_scope('mmdense')
    torch.manual_seed(0)
    model = MODELS.build(CONFIGS[name])
    model.init_weights()
    g = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=g))
    for module in model.modules():
        # statistics of the batch are a matter of SyncBN
        if isinstance(module, _BatchNorm):
            module.eval()
    return model


def _crops(name, step):
    g = torch.Generator().manual_seed(step)
    sizes = (32, 32) if name == 'moby' else (32, 32, 24, 24)
    return [torch.randn(BATCH, 3, s, s, generator=g) for s in sizes]


def _arrays(tensors):
    return {k: v.detach().numpy() for k, v in tensors.items()}


def _train(name, rows, parallel):
    """Two steps; losses, gradients of the first step, state at the end."""
    model = _build(name)
    net = _Loss(model)
    if parallel:
        net = DistributedDataParallel(net, static_graph=parallel == 'static')
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses, grads = [], {}
    for step in range(2):
        model.set_epoch(step)
        model.before_step(step / 2)
        loss = net([crop[rows] for crop in _crops(name, step)])
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            grads = {
                k: p.grad.clone()
                for k, p in model.named_parameters()
                if p.grad is not None
            }
        optimizer.step()
        model.after_step(step / 2)
        losses.append(loss.item())
    return losses, _arrays(grads), _arrays(model.state_dict())


def _moby_loss(rows):
    """The loss alone, given predictions and keys."""
    torch.manual_seed(0)
    module = MoBYLoss(DIMS, 12)
    losses, grads = [], []
    for step in range(4):
        g = torch.Generator().manual_seed(step)
        given = [torch.randn(BATCH, DIMS, generator=g)[rows] for _ in range(4)]
        given[0].requires_grad_()
        loss = module(*given)['loss']
        loss.backward()
        module.after_step()
        losses.append(loss.item())
        grads.append(given[0].grad.numpy())
    return losses, grads, _arrays(module.state_dict())


def _refused():
    """2 keys here divide 6, those of both processes do not."""
    try:
        MoBYLoss(DIMS, 6)(*[torch.randn(2, DIMS) for _ in range(4)])
    except ValueError as error:
        return str(error)
    return ''


def _work(rank, world_size):
    size = BATCH // world_size
    rows = slice(rank * size, (rank + 1) * size)
    found = {
        name: _train(name, rows, 'plain' if name == 'dino' else 'static')
        for name in CONFIGS
    }
    found['moby_loss'] = _moby_loss(rows)
    found['refused'] = _refused()
    return found


@pytest.fixture(scope='module')
def both():
    return run_distributed(_work, 2, timeout=240)


def _close(got, want, **tolerance):
    assert set(got) == set(want)
    for key, value in want.items():
        np.testing.assert_allclose(
            got[key], value, err_msg=key, **{'rtol': 1e-3, **tolerance}
        )


@pytest.mark.dist
@pytest.mark.parametrize('name', list(CONFIGS))
def test_train__two_processes_are_one_with_the_joint_batch(name, both):
    losses, grads, state = _train(name, slice(0, BATCH), None)
    for step in range(2):
        mean = sum(rank[name][0][step] for rank in both) / 2
        assert mean == pytest.approx(losses[step], rel=1e-4)
    # each half alone is another loss
    assert abs(both[0][name][0][0] - losses[0]) > 1e-3
    for rank in both:
        _close(rank[name][1], grads, atol=1e-5)
        _close(rank[name][2], state, atol=1e-5)
    moved = {'moby': 'queue1', 'dino': 'center', 'selfpatch': 'center'}[name]
    start = _build(name).state_dict()
    keys = [k for k in state if k.endswith(moved)]
    assert keys
    for key in keys:
        assert np.abs(state[key] - start[key].numpy()).max() > 1e-3


@pytest.mark.dist
def test_moby_loss__same_keys_give_the_same_loss_and_queues(both):
    losses, grads, state = _moby_loss(slice(0, BATCH))
    for step in range(4):
        mean = sum(rank['moby_loss'][0][step] for rank in both) / 2
        assert mean == pytest.approx(losses[step], rel=1e-5)
        joint = [rank['moby_loss'][1][step] / 2 for rank in both]
        np.testing.assert_allclose(
            np.concatenate(joint), grads[step], rtol=1e-4, atol=1e-6
        )
    for rank in both:
        _close(rank['moby_loss'][2], state, rtol=1e-6)
    # 16 keys through 12 places
    assert state['queue_ptr'].tolist() == [4]


@pytest.mark.dist
def test_moby_loss__keys_of_all_processes_have_to_fit(both):
    for rank in both:
        assert 'queue_size=6 is not divisible by the 4 keys' in rank['refused']
