"""Fewer groups, the same updates."""

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmdense.engine.optimizers import grouped_constructor

PARAMWISE = {
    'norm_decay_mult': 0.0,
    'bias_decay_mult': 0.0,
    'flat_decay_mult': 0.0,
    'custom_keys': {'head': {'lr_mult': 0.1}},
}


def _model():
    torch.manual_seed(0)
    model = nn.Module()
    model.body = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    model.head = nn.Linear(4, 2)
    model.teacher = nn.Sequential(nn.Linear(3, 4)).requires_grad_(False)
    model.mixed = nn.Linear(2, 2)
    model.mixed.bias.requires_grad_(False)
    return model


def _build(model, constructor, paramwise):
    return build_optim_wrapper(
        model,
        {
            'type': 'mmdense.OptimWrapper',
            'constructor': constructor,
            'optimizer': {'type': 'AdamW', 'lr': 0.1, 'weight_decay': 0.5},
            'paramwise_cfg': paramwise,
        },
    )


@pytest.mark.parametrize('paramwise', [PARAMWISE, None])
def test_constructor__updates_are_those_of_the_stock_one(paramwise):
    model = _model()
    twin = copy.deepcopy(model)
    ours = _build(model, 'mmdense.GroupedOptimWrapperConstructor', paramwise)
    stock = _build(twin, 'DefaultOptimWrapperConstructor', paramwise)
    for step in range(3):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        for net, wrapper in ((model, ours), (twin, stock)):
            out = net.mixed(net.head(net.body(x)))
            wrapper.update_params((out**2).mean())
    for one, two in zip(model.parameters(), twin.parameters()):
        assert torch.equal(one, two)
    if paramwise is not None:
        groups = ours.optimizer.param_groups
        assert len(groups) == 3 < len(stock.optimizer.param_groups)
        kept = {id(p) for group in groups for p in group['params']}
        assert kept == {id(p) for p in model.parameters() if p.requires_grad}


def test_constructor__frozen_modules_are_passed_over_in_silence(monkeypatch):
    said = []
    monkeypatch.setattr(
        'mmengine.optim.optimizer.default_constructor.print_log',
        lambda message, *args, **kwargs: said.append(message),
    )
    _build(_model(), 'mmdense.GroupedOptimWrapperConstructor', PARAMWISE)
    assert not any('teacher' in message for message in said)
    assert any('mixed.bias is skipped' in message for message in said)


def test_settings_of__everything_but_the_parameters():
    one = {'params': [1], 'lr': 0.1, 'betas': (0.9, 0.99)}
    two = {'betas': (0.9, 0.99), 'lr': 0.1, 'params': [2]}
    assert grouped_constructor.settings_of(one) == (
        grouped_constructor.settings_of(two)
    )
    two['lr'] = 0.2
    assert grouped_constructor.settings_of(one) != (
        grouped_constructor.settings_of(two)
    )
