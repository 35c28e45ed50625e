"""The last layer is still during the first epochs, and no longer."""

import types

import pytest
import torch
from mmengine.optim import OptimWrapper as StockOptimWrapper
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from mmdense.engine.hooks import FreezeLastLayerHook
from mmdense.engine.optimizers import OptimWrapper
from mmdense.utils.errors import UserError


def _model():
    model = nn.Module()
    model.backbone = nn.Linear(3, 3)
    model.neck = nn.Module()
    model.neck.last_layer = nn.Linear(3, 2)
    model.patch_head = nn.Module()
    model.patch_head.last_layer = nn.Linear(3, 2)
    model.teacher = nn.Module()
    model.teacher.last_layer = nn.Linear(3, 2).requires_grad_(False)
    return model


def _runner(length=2, by_epoch=True, wrapper=OptimWrapper):
    model = _model()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], weight_decay=0.5
    )
    loop = object()
    if not by_epoch:
        loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
    return types.SimpleNamespace(
        model=model,
        optim_wrapper=wrapper(optimizer),
        train_loop=loop,
        train_dataloader=range(length),
        iter=0,
        epoch=0,
    )


def _train(runner, hook, steps):
    """Names of the parameters that each step moves."""
    hook.before_train(runner)
    model, moved = runner.model, []
    for _ in range(steps):
        hook.before_train_iter(runner, 0)
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        x = model.backbone(torch.ones(1, 3))
        loss = model.neck.last_layer(x) + model.patch_head.last_layer(x)
        runner.optim_wrapper.update_params(loss.sum())
        moved.append(
            {
                name.split('.')[0]
                for name, p in model.named_parameters()
                if not torch.equal(p, before[name])
            }
        )
        runner.iter += 1
        if not isinstance(runner.train_loop, IterBasedTrainLoop):
            runner.epoch = runner.iter // len(runner.train_dataloader)
    return moved


ALL = {'backbone', 'neck', 'patch_head'}


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('epochs', [0, 1, 2])
def test_hook__frozen_for_so_many_epochs(epochs, by_epoch):
    moved = _train(_runner(2, by_epoch), FreezeLastLayerHook(epochs), 6)
    assert moved == [{'backbone'}] * (2 * epochs) + [ALL] * (6 - 2 * epochs)


def test_hook__resumed_run_is_not_frozen_again():
    runner = _runner()
    runner.iter, runner.epoch = 4, 2
    assert _train(runner, FreezeLastLayerHook(), 1) == [ALL]


def test_hook__name_chooses():
    hook = FreezeLastLayerHook(name='patch_head')
    assert _train(_runner(), hook, 1) == [{'backbone', 'neck'}]


def test_before_train__what_cannot_work_is_refused():
    with pytest.raises(UserError, match='mmdense.OptimWrapper'):
        FreezeLastLayerHook().before_train(_runner(wrapper=StockOptimWrapper))
    with pytest.raises(UserError, match="'nothing'"):
        FreezeLastLayerHook(name='nothing').before_train(_runner())
    # a layer that is never trained is not found
    runner = _runner()
    runner.model.requires_grad_(False)
    with pytest.raises(UserError, match='no trained parameter'):
        FreezeLastLayerHook().before_train(runner)
