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


class _Teacher(_Run):
    """Feeds the values of a teacher."""

    def feed_teacher(self, steps, **values):
        for _ in range(steps):
            outputs = {k: torch.tensor(float(v)) for k, v in values.items()}
            self.hook.after_train_iter(self.runner, 0, outputs=outputs)
            self.runner.iter += 1


HEALTHY = {
    'std_global': 0.8,
    'teacher_entropy': 0.6,
    'teacher_information': 0.4,
}


@pytest.mark.parametrize(
    'values, words, others',
    [
        (
            {'teacher_information': 1e-4, 'teacher_entropy': 0.9999},
            'evenly over all outputs',
            'one output takes all',
        ),
        (
            {'teacher_information': 1e-4, 'teacher_entropy': 0.02},
            'one output takes all',
            'evenly over all outputs',
        ),
        (
            {'teacher_information': 1e-4, 'teacher_entropy': 0.5},
            'neither even nor',
            'one output takes all',
        ),
        (
            {'std_global': 0.01},
            'Features look collapsed',
            'Teacher looks collapsed',
        ),
    ],
)
def test_after_train_iter__says_which_collapse(values, words, others):
    run = _Teacher()
    run.feed_teacher(30, **{**HEALTHY, **values})
    assert len(run.messages) == 1
    assert words in run.messages[0] and others not in run.messages[0]
    key, value = next(iter(values.items()))
    assert f'{key} = {value:.3g}' in run.messages[0]


@pytest.mark.parametrize('entropy', [0.0, 0.3, 0.9, 1.0])
def test_after_train_iter__sharp_outputs_alone_are_no_collapse(entropy):
    # every image its own output: no entropy, all the information
    run = _Teacher()
    run.feed_teacher(30, **{**HEALTHY, 'teacher_entropy': entropy})
    assert run.messages == []


@pytest.mark.parametrize(
    'value, words',
    [
        (1 - 1e-4, 'evenly over all'),
        (1e-4, 'one output takes'),
        (0.99, None),
        (float('nan'), 'neither even nor'),
    ],
)
@pytest.mark.parametrize('key', ['patch_entropy', 'teacher_entropy'])
def test_after_train_iter__entropy_without_information(key, value, words):
    run = _Teacher()
    run.feed_teacher(30, **{'std_global': 0.8, key: value})
    assert len(run.messages) == (words is not None)
    assert words is None or words in run.messages[0]


def test_after_train_iter__patch_information_has_its_own_entropy():
    run = _Teacher()
    run.feed_teacher(
        30, **HEALTHY, patch_information=1e-5, patch_entropy=0.9999
    )
    assert len(run.messages) == 1
    assert 'patch_information was low' in run.messages[0]
    assert 'evenly over all outputs' in run.messages[0]


def test_after_train_iter__entropy_is_averaged_over_the_looks():
    # looks at 6, 8 and 10; the second look alone is one-hot
    run = _Teacher()
    for step in range(1, 11):
        entropy = 0.0 if step in (7, 8) else 1.0
        values = {'teacher_information': 0.0, 'teacher_entropy': entropy}
        run.feed_teacher(1, **{**HEALTHY, **values})
    assert len(run.messages) == 1
    assert 'neither even nor' in run.messages[0]


@pytest.mark.parametrize('center, said', [(0.0, True), (0.3, False)])
def test_after_train_iter__centre_that_never_moved(center, said):
    run = _Teacher()
    values = {'teacher_information': 0.0, 'teacher_entropy': 0.01}
    run.feed_teacher(30, **{**HEALTHY, **values}, center_norm=center)
    assert ('MomentumUpdateHook' in run.messages[0]) == said


def test_after_train_iter__default_keys_miss_nothing():
    # what one method logs is not missed in another
    run = _Teacher()
    run.feed_teacher(30, **HEALTHY)
    run.feed_teacher(30, std_global=0.5, std_local=0.5)
    assert run.messages == []
    run.feed_teacher(30, loss=1.0)
    assert len(run.messages) == 1 and "'std_global'" in run.messages[0]


@pytest.mark.parametrize('begin', [0, 3, 7, 16])
@pytest.mark.parametrize('settings', [(5, 3, 8), (1, 1, 0), (4, 2, 13)])
def test_after_train_iter__detects_within_the_stated_number(begin, settings):
    interval, patience, warmup = settings
    run = _Teacher(interval=interval, patience=patience, warmup=warmup)
    run.feed_teacher(begin, **HEALTHY)
    low = {**HEALTHY, 'teacher_information': 0.0}
    limit = max(begin, warmup) + patience * interval
    while not run.messages and run.runner.iter < 100:
        run.feed_teacher(1, **low)
    assert run.runner.iter <= limit
    # the bound is not generous
    assert run.runner.iter > limit - interval
