import logging
import types

import pytest
import torch
from mmengine.logging import MessageHub

from mmdense.engine.hooks import FeatureMonitorHook
from mmdense.evaluation.functional.features import effective_rank, feature_std
from mmdense.testing.distributed import run_distributed


class _Model(torch.nn.Module):
    """Counts how often its features are asked for."""

    def __init__(self, **features):
        super().__init__()
        self.features = features
        self.reads = 0

    @property
    def monitored(self):
        self.reads += 1
        return self.features


class _Wrapper:
    """Counts how often the norm is asked for."""

    def __init__(self, norm):
        self.norm = norm
        self.reads = 0

    @property
    def grad_norm(self):
        self.reads += 1
        return self.norm


def _runner(model, wrapper=None):
    messages = []
    logger = logging.Logger('test')
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.addHandler(handler)
    return types.SimpleNamespace(
        iter=0,
        model=model,
        optim_wrapper=wrapper,
        logger=logger,
        messages=messages,
        message_hub=MessageHub('test'),
    )


def _run(hook, runner, steps, outputs=None):
    for _ in range(steps):
        hook.after_train_iter(runner, 0, outputs=outputs)
        runner.iter += 1


def _logged(runner):
    return {
        key: buffer.data[0].tolist()
        for key, buffer in runner.message_hub.log_scalars.items()
    }


def test_after_train_iter__logs_rank_spread_and_norm():
    features = {
        'global': torch.randn(12, 5),
        'local': torch.randn(12, 3) + 2,
    }
    runner = _runner(_Model(**features), _Wrapper(torch.tensor(2.5)))
    outputs = {'std_global': torch.tensor(0.9)}
    _run(FeatureMonitorHook(interval=4), runner, 9, outputs)
    logged = _logged(runner)
    # the model logs std_global itself
    assert set(logged) == {
        'train/rank_global',
        'train/rank_local',
        'train/std_local',
        'train/grad_norm',
    }
    assert logged['train/grad_norm'] == [2.5, 2.5]
    for name, x in features.items():
        wanted = float(effective_rank(x))
        assert logged[f'train/rank_{name}'] == pytest.approx([wanted] * 2)
    wanted = float(feature_std(features['local']))
    assert logged['train/std_local'] == pytest.approx([wanted] * 2)


def test_after_train_iter__nothing_is_touched_between_looks():
    model = _Model(**{'global': torch.randn(4, 3)})
    runner = _runner(model, _Wrapper(torch.tensor(1.0)))
    hook = FeatureMonitorHook(interval=5)
    _run(hook, runner, 4)
    assert (model.reads, runner.optim_wrapper.reads) == (0, 0)
    assert _logged(runner) == {}
    _run(hook, runner, 1)
    assert (model.reads, runner.optim_wrapper.reads) == (1, 1)


@pytest.mark.parametrize('wrapper', [None, _Wrapper(None)])
def test_after_train_iter__no_norm_is_no_error(wrapper):
    runner = _runner(_Model(**{'global': torch.randn(4, 3)}), wrapper)
    _run(FeatureMonitorHook(interval=1), runner, 1)
    assert set(_logged(runner)) == {'train/rank_global', 'train/std_global'}


def test_after_train_iter__max_rows_takes_evenly_spaced_ones():
    rows = torch.zeros(10, 4)
    rows[::3] = torch.eye(4)  # 0, 3, 6, 9
    runner = _runner(_Model(x=rows.view(2, 5, 4)))
    _run(FeatureMonitorHook(interval=1, max_rows=4), runner, 1)
    assert _logged(runner)['train/rank_x'] == pytest.approx([4])


def test_after_train_iter__model_without_features_is_reported_once():
    runner = _runner(torch.nn.Linear(2, 2))
    _run(FeatureMonitorHook(interval=1), runner, 5)
    assert len(runner.messages) == 1 and 'Linear' in runner.messages[0]
    assert _logged(runner) == {}


@pytest.mark.parametrize('name', ['interval', 'max_rows'])
def test_init__values_have_to_be_positive(name):
    with pytest.raises(ValueError, match=name):
        FeatureMonitorHook(**{name: 0})


def _rank(rank, world_size):
    model = _Model(**{'global': torch.eye(6)[: 2 + 3 * rank]})
    runner = _runner(model, _Wrapper(torch.tensor(3.0)))
    _run(FeatureMonitorHook(interval=1), runner, 1)
    return _logged(runner)


@pytest.mark.dist
def test_after_train_iter__mean_over_processes():
    first, second = run_distributed(_rank, 2)
    assert first == second
    assert first['train/rank_global'] == pytest.approx([(2 + 5) / 2])
    assert first['train/grad_norm'] == [3.0]
