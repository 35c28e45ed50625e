"""When the hook calls the model, step by step."""

import logging

import pytest
import torch
from mmengine.optim import OptimWrapperDict
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from mmdense.engine.hooks import MomentumUpdateHook
from mmdense.engine.optimizers import OptimWrapper
from mmdense.utils.errors import UserError


class _Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.calls = []

    def before_step(self, progress):
        self.calls.append(('before', round(progress, 9)))

    def after_step(self, progress):
        self.calls.append(('after', round(progress, 9)))

    def set_epoch(self, epoch):
        self.calls.append(('epoch', epoch))


class _Runner:
    """The loop of mmengine, as far as the hook sees it."""

    def __init__(self, length, epochs, count=1, start=0, by_epoch=True):
        self.model = _Model()
        self.optim_wrapper = OptimWrapper(
            torch.optim.SGD(self.model.parameters(), lr=0.1),
            accumulative_counts=count,
        )
        self.train_dataloader = range(length)
        self.max_iters = length * epochs
        self.iter, self.epoch = start, start // length if by_epoch else 0
        self.by_epoch = by_epoch
        self.train_loop = object()
        if not by_epoch:
            self.train_loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
        self.messages = []
        self.logger = logging.Logger('test')
        handler = logging.Handler()
        handler.emit = lambda record: self.messages.append(record.getMessage())
        self.logger.addHandler(handler)

    def train(self, stop=None):
        hook = MomentumUpdateHook()
        self.optim_wrapper.initialize_count_status(
            self.model, self.iter, self.max_iters
        )
        hook.before_train(self)
        calls = self.model.calls
        length = len(self.train_dataloader)
        stop = self.max_iters if stop is None else stop
        while self.iter < stop:
            if self.by_epoch and self.iter % length == 0:
                hook.before_train_epoch(self)
            hook.before_train_iter(self, self.iter % length)
            calls.append('forward')
            self.optim_wrapper.update_params(self.model.weight * 1.0)
            hook.after_train_iter(self, self.iter % length)
            self.iter += 1
            if self.by_epoch:
                self.epoch = self.iter // length
        return calls


def test_calls__one_iteration_a_step():
    got = _Runner(length=2, epochs=2).train()
    want = []
    for iteration in range(4):
        if iteration % 2 == 0:
            want.append(('epoch', iteration // 2))
        progress = iteration / 4
        want += [('before', progress), 'forward', ('after', progress)]
    assert got == want


def test_calls__once_a_step_with_accumulation():
    """Progress is that of the step's last iteration, before and after."""
    got = _Runner(length=4, epochs=1, count=2).train()
    assert got == [
        ('epoch', 0),
        *(('before', 1 / 4), 'forward', 'forward', ('after', 1 / 4)),
        *(('before', 3 / 4), 'forward', 'forward', ('after', 3 / 4)),
    ]


def test_calls__a_step_across_epochs_and_a_short_last_one():
    runner = _Runner(length=5, epochs=1, count=3)
    assert runner.train() == [
        ('epoch', 0),
        *(('before', 0.4), *['forward'] * 3, ('after', 0.4)),
        *(('before', 0.8), *['forward'] * 2, ('after', 0.8)),
    ]
    calls = _Runner(length=3, epochs=2, count=2).train()
    assert calls == [
        ('epoch', 0),
        *(('before', 0.166666667), 'forward', 'forward'),
        ('after', 0.166666667),
        *(('before', 0.5), 'forward', ('epoch', 1), 'forward'),
        ('after', 0.5),
        *(('before', 0.833333333), 'forward', 'forward'),
        ('after', 0.833333333),
    ]


def test_calls__resumed_run_starts_with_epoch_and_step():
    assert _Runner(length=2, epochs=3, start=4).train()[:3] == [
        *(('epoch', 2), ('before', 0.666666667), 'forward'),
    ]
    # in the middle of a step: what is left of it is a step
    calls = _Runner(length=4, epochs=1, count=2, start=1).train(stop=2)
    assert [c for c in calls if c != ('epoch', 0)] == [
        *(('before', 0.25), 'forward', ('after', 0.25)),
    ]


def test_calls__loop_that_counts_iterations_alone():
    calls = _Runner(length=2, epochs=3, by_epoch=False, start=2).train()
    assert [c for c in calls if c[0] == 'epoch'] == [
        ('epoch', 1),
        ('epoch', 2),
    ]
    assert [c for c in calls if c[0] == 'after'] == [
        ('after', round(i / 6, 9)) for i in range(2, 6)
    ]


@pytest.mark.parametrize('length,warned', [(4, False), (5, True)])
def test_before_train__warns_of_a_step_across_epochs(length, warned):
    runner = _Runner(length=length, epochs=1, count=2)
    runner.train()
    assert len(runner.messages) == int(warned)
    if warned:
        for words in ('5 iterations', 'accumulative_counts=2', 'resumed'):
            assert words in runner.messages[0]


def test_before_train__other_models_are_refused():
    runner = _Runner(2, 1)
    runner.model = nn.Linear(1, 1)
    with pytest.raises(UserError, match='before_step, after_step, set_epoch'):
        MomentumUpdateHook().before_train(runner)
    runner = _Runner(2, 1)
    runner.optim_wrapper = OptimWrapperDict(a=runner.optim_wrapper)
    with pytest.raises(UserError, match='one optimiser'):
        MomentumUpdateHook().before_train(runner)


def test_unwrapped__looks_behind_ddp(monkeypatch):
    from mmdense.engine.hooks import momentum_update_hook as module

    class _Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.module = inner

    monkeypatch.setattr(
        module, 'is_model_wrapper', lambda m: isinstance(m, _Wrapper)
    )
    runner = _Runner(length=1, epochs=1)
    inner = runner.model
    runner.model = _Wrapper(_Wrapper(inner))
    runner.model.weight, runner.model.calls = inner.weight, []
    runner.train()
    assert [c[0] for c in inner.calls] == ['epoch', 'before', 'after']


def test_step_that_loss_scaling_skips__counts(monkeypatch):
    runner = _Runner(length=3, epochs=1)
    monkeypatch.setattr(runner.optim_wrapper, 'step', lambda **kwargs: None)
    calls = runner.train()
    assert [c for c in calls if c[0] == 'after'] == [
        ('after', round(i / 3, 9)) for i in range(3)
    ]
