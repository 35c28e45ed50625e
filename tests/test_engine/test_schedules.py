"""Learning rate and weight decay of the recipes, at every iteration."""

import math
import uuid

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmdense.apis.config_check import find_problems
from mmdense.engine.optimizers import AmpOptimWrapper
from mmdense.models.utils.momentum_teacher import MomentumTeacher
from mmdense.testing.launch import ROOT

FOLDER = ROOT / 'configs/_base_/schedules'
# file -> base learning rate, batch, epochs, warm-up epochs
DINO = {
    'dino_adamw_coslr-200e_1024.py': (2e-3, 1024, 200, 10),
    'dino_adamw_coslr-300e_1024.py': (2e-3, 1024, 300, 10),
    'dino_adamw_coslr-200e_256.py': (5e-4, 256, 200, 10),
}
MOBY = {
    'moby_adamw_coslr-300e_512.py': (1e-3, 512, 300, 5),
    'moby_adamw_coslr-200e_256.py': (5e-4, 256, 200, 5),
}


class _Toy(BaseModel):
    """A parameter of each kind that the recipe tells apart."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.ones(1, 1, 2))
        self.norm = nn.LayerNorm(2)
        self.last_layer = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(2))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)

    def forward(self, inputs, mode='tensor'):
        x = self.norm(self.cls_token + inputs[:, None] * self.scale)
        return {'loss': self.last_layer(x).square().mean()}


class _Watch(Hook):
    """Keeps learning rate and weight decay of each iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.lr, self.decay = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        groups = runner.optim_wrapper.optimizer.param_groups
        self.lr.append({group['lr'] for group in groups})
        self.decay.append(
            {
                'cls_token' if p.ndim == 3 else f'{p.ndim}d': g['weight_decay']
                for g in groups
                for p in g['params']
            }
        )


def _run(path, iters, tmp_path, batch=1, scaled=False, **changes):
    """Train a toy by the recipe; ``iters`` iterations make an epoch."""
    cfg = Config.fromfile(str(FOLDER / path))
    cfg.merge_from_dict(changes)
    assert not find_problems(cfg, check_paths=False)
    cfg.auto_scale_lr.enable = scaled
    cfg.experiment_name = uuid.uuid4().hex
    runner = Runner(
        model=_Toy(),
        work_dir=str(tmp_path),
        train_dataloader={
            'batch_size': batch,
            'num_workers': 0,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'collate_fn': {'type': 'default_collate'},
            'dataset': [{'inputs': torch.ones(2)}] * (iters * batch),
        },
        train_cfg=cfg.train_cfg,
        auto_scale_lr=cfg.auto_scale_lr,
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler,
        default_hooks={'logger': None, 'checkpoint': None},
        custom_hooks=cfg.get('custom_hooks'),
        default_scope='mmdense',
        log_level='ERROR',
        experiment_name=cfg.experiment_name,
        cfg=cfg,
    )
    watch = _Watch()
    runner.register_hook(watch)
    runner.train()
    assert all(len(rates) == 1 for rates in watch.lr)
    watch.lr = [rates.pop() for rates in watch.lr]
    return watch, runner


def _dino_lr(t, base, low, total, warm):
    if t < warm:
        return base * t / (warm - 1)
    wave = 1 + math.cos(math.pi * (t - warm) / (total - warm))
    return low + (base - low) * wave / 2


@pytest.mark.parametrize('path', DINO)
def test_dino__every_iteration(path, tmp_path):
    base, _, epochs, warm_epochs = DINO[path]
    iters = 2
    watch, runner = _run(path, iters, tmp_path)
    total, warm = epochs * iters, warm_epochs * iters
    assert len(watch.lr) == total == runner.max_iters
    want = [_dino_lr(t, base, 1e-6, total, warm) for t in range(total)]
    # the start is 0 to within a millionth of a millionth
    np.testing.assert_allclose(watch.lr, want, rtol=1e-9, atol=2.1e-12)
    assert 0 <= watch.lr[0] < 3e-12
    assert watch.lr[warm - 1] == pytest.approx(base, rel=1e-12)
    assert watch.lr[warm] == pytest.approx(base, rel=1e-12)
    for t, decay in enumerate(watch.decay):
        wave = 1 + math.cos(math.pi * t / total)
        wanted = 0.4 + (0.04 - 0.4) * wave / 2
        assert decay['2d'] == decay['cls_token']
        assert decay['2d'] == pytest.approx(wanted, rel=1e-9)
        assert decay['1d'] == 0
    assert isinstance(runner.optim_wrapper, AmpOptimWrapper)
    assert runner.optim_wrapper.clip_grad_kwargs == {'max_norm': 3.0}


@pytest.mark.parametrize('path', MOBY)
def test_moby__every_iteration(path, tmp_path):
    base, _, epochs, warm_epochs = MOBY[path]
    iters = 2
    watch, runner = _run(path, iters, tmp_path)
    total, warm = epochs * iters, warm_epochs * iters
    assert len(watch.lr) == total
    start, low = base * 5e-4, base * 5e-3
    want = [
        start + (base - start) * t / (warm - 1)
        if t < warm
        else _dino_lr(t, base, low, total, warm)
        for t in range(total)
    ]
    np.testing.assert_allclose(watch.lr, want, rtol=1e-9)
    if base == 1e-3:
        assert (start, low) == (5e-7, 5e-6)
    for decay in watch.decay:
        assert decay == {'cls_token': 0.05, '2d': 0.05, '1d': 0}
    assert runner.optim_wrapper.clip_grad_kwargs == {'max_norm': 5.0}


def test_dino__official_table_of_learning_rates(tmp_path):
    data = np.load(ROOT / 'tests/data/golden/dino_step.npz')
    watch, _ = _run(
        'dino_adamw_coslr-200e_1024.py',
        5,
        tmp_path,
        **{
            'optim_wrapper.optimizer.lr': 5e-4,
            'train_cfg.max_epochs': 4,
            'param_scheduler.0.end': 2,
            'param_scheduler.1.begin': 2,
        },
    )
    np.testing.assert_allclose(
        watch.lr, data['out/sched_lr'], rtol=1e-6, atol=1e-12
    )


def test_momentum_at__official_table():
    want = np.load(ROOT / 'tests/data/golden/dino_step.npz')['out/sched_m']
    teacher = MomentumTeacher(0.996, 1.0)
    got = [teacher.momentum_at(t / len(want)) for t in range(len(want))]
    np.testing.assert_allclose(got, want, rtol=1e-7)


@pytest.mark.parametrize('path', [*DINO, *MOBY])
def test_auto_scale_lr__what_scales_with_the_batch(path, tmp_path):
    """DINO ends at 1e-6 whatever the batch, MoBY's ends scale too."""
    base, batch, epochs, warm_epochs = {**DINO, **MOBY}[path]
    watch, _ = _run(path, 2, tmp_path, batch=4, scaled=True)
    ratio = 4 / batch
    total, warm = 2 * epochs, 2 * warm_epochs
    top = base * ratio
    low = 1e-6 if path in DINO else top * 5e-3
    assert watch.lr[warm] == pytest.approx(top, rel=1e-9)
    assert watch.lr[-1] == pytest.approx(
        _dino_lr(total - 1, top, low, total, warm), rel=1e-9
    )
    assert watch.lr[0] == pytest.approx(
        top * (1e-9 if path in DINO else 5e-4), rel=1e-9
    )


def test_recipe__last_layer_is_still_for_one_epoch(tmp_path):
    states = []

    class _Look(Hook):
        def after_train_iter(self, runner, *args, **kwargs):
            layer = runner.model.last_layer
            states.append(
                (
                    layer.weight in runner.optim_wrapper.optimizer.state,
                    runner.model.scale in runner.optim_wrapper.optimizer.state,
                )
            )

    real = Runner.train

    def train(runner):
        runner.register_hook(_Look())
        return real(runner)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, 'train', train)
        _run(
            'dino_adamw_coslr-200e_256.py',
            3,
            tmp_path,
            **{'train_cfg.max_epochs': 12},
        )
    assert states[:3] == [(False, True)] * 3
    assert set(states[3:]) == {(True, True)}


def test_recipe__one_group_for_each_kind_of_setting(tmp_path):
    _, runner = _run(
        'dino_adamw_coslr-200e_256.py',
        1,
        tmp_path,
        **{'train_cfg.max_epochs': 12},
    )
    groups = runner.optim_wrapper.optimizer.param_groups
    names = {id(p): n for n, p in runner.model.named_parameters()}
    found = sorted(
        sorted(names[id(p)] for p in group['params']) for group in groups
    )
    assert found == [
        ['cls_token', 'last_layer.weight'],
        ['last_layer.bias', 'norm.bias', 'norm.weight', 'scale'],
    ]
