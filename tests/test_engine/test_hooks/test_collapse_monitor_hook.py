import logging
import types

import pytest
import torch

from mmdense.engine.hooks import CollapseMonitorHook


class _Run:
    """Feeds values to the hook and keeps what is logged."""

    def __init__(self, **options):
        self.hook = CollapseMonitorHook(
            **{'interval': 2, 'patience': 3, 'warmup': 4, **options}
        )
        self.messages = []
        logger = logging.Logger('test')
        handler = logging.Handler()
        handler.emit = lambda record: self.messages.append(record.getMessage())
        logger.addHandler(handler)
        self.runner = types.SimpleNamespace(iter=0, logger=logger)

    def feed(self, values, key='std_local'):
        for value in values:
            outputs = {'std_global': torch.tensor(0.9)}
            outputs[key] = torch.tensor(float(value))
            self.hook.after_train_iter(self.runner, 0, outputs=outputs)
            self.runner.iter += 1


def test_after_train_iter__warns_once_in_words():
    run = _Run()
    run.feed([0.001] * 30)
    assert len(run.messages) == 1
    assert 'std_local = 0.001' in run.messages[0]
    assert 'learning rate' in run.messages[0]
    # warm-up 4, then looks at iterations 6, 8, 10 (counted from 1)
    assert 'up to iteration 10' in run.messages[0]


def test_after_train_iter__healthy_features_are_silent():
    run = _Run()
    run.feed([0.8] * 30)
    run.feed([0.01, 0.01, 0.8, 0.8] * 5)
    assert run.messages == []


def test_after_train_iter__warns_again_after_recovery():
    run = _Run()
    run.feed([0.0] * 12)
    run.feed([1.0] * 4)
    run.feed([0.0] * 8)
    assert len(run.messages) == 2


def test_after_train_iter__nan_counts_as_collapse():
    run = _Run()
    run.feed([float('nan')] * 12)
    assert len(run.messages) == 1


def test_after_train_iter__missing_value_is_reported_once():
    run = _Run(keys=('nothing',))
    run.feed([0.5] * 20)
    assert len(run.messages) == 1
    assert "'nothing'" in run.messages[0]


@pytest.mark.parametrize('warmup', [0, 10])
def test_after_train_iter__warmup(warmup):
    run = _Run(warmup=warmup, patience=1)
    run.feed([0.0] * 8)
    assert len(run.messages) == (1 if warmup == 0 else 0)
