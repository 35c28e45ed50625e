"""What changes between a run and its continuation is said."""

import logging
import re
import types

import pytest
import torch
from torch import nn

from mmdense.apis import running
from mmdense.engine.hooks import ResumeCheckHook, resume_check_hook
from mmdense.engine.optimizers import OptimWrapper
from mmdense.testing.tiny_training import tiny_training


def _runner(
    model=None, batch=4, count=1, length=10, resume=True, messages=None
):
    model = model or nn.Linear(1, 1)
    logger = logging.Logger('test')
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.addHandler(handler)
    loader = torch.utils.data.DataLoader(range(batch * length), batch)
    return types.SimpleNamespace(
        model=model,
        optim_wrapper=OptimWrapper(
            torch.optim.SGD(model.parameters(), lr=0.1),
            accumulative_counts=count,
        ),
        train_dataloader=loader,
        logger=logger,
        _resume=resume,
    )


def _said(monkeypatch, before, now, worlds=(1, 1)):
    """What is logged when ``now`` goes on with a checkpoint of ``before``."""
    messages, checkpoint, hook = [], {}, ResumeCheckHook()
    for world, options, call in zip(
        worlds,
        (before, now),
        (hook.before_save_checkpoint, hook.after_load_checkpoint),
    ):
        monkeypatch.setattr(
            resume_check_hook, 'process_info', lambda world=world: (0, world)
        )
        call(_runner(messages=messages, **options), checkpoint)
    return messages


def test_hook__same_conditions_are_silent(monkeypatch):
    assert _said(monkeypatch, {}, {}) == []


def test_hook__only_when_resuming(monkeypatch):
    now = {'batch': 8, 'resume': False}
    assert _said(monkeypatch, {}, now) == []


@pytest.mark.parametrize(
    'now,worlds,words',
    [
        (
            {'batch': 8},
            (1, 1),
            ['batch_size: 4 before, 8 now', 'A step takes 8'],
        ),
        (
            {},
            (2, 4),
            ['world_size: 2 before, 4 now', '16 samples instead of 8'],
        ),
        (
            {'count': 3},
            (1, 1),
            ['accumulative_counts: 1', '12 samples instead'],
        ),
        (
            {'batch': 2},
            (1, 2),
            ['A step takes 4 samples as before', 'order'],
        ),
        (
            {'length': 5},
            (1, 1),
            ['epoch_length: 10 before, 5 now', 'teacher momentum'],
        ),
        ({'model': nn.Conv2d(1, 1, 1)}, (1, 1), ['another method']),
    ],
)
def test_hook__says_what_changes(monkeypatch, now, worlds, words):
    (message,) = _said(monkeypatch, {}, now, worlds)
    for part in words:
        assert part in message
    # nothing is said of what stays
    changed = re.findall(r'\S+ before, \S+ now', message)
    assert len(changed) == len(now) + (worlds[0] != worlds[1])


def test_hook__checkpoint_without_facts_is_taken(monkeypatch):
    messages = []
    ResumeCheckHook().after_load_checkpoint(_runner(messages=messages), {})
    assert messages == []


@pytest.mark.slow
def test_resume__with_another_batch_warns_and_goes_on(tmp_path):
    running.build_runner(tiny_training('dino', tmp_path, epochs=2)).train()
    cfg = tiny_training('dino', tmp_path, batch_size=6, epochs=3)
    cfg.resume = True
    runner = running.build_runner(cfg)
    runner.train()
    (log,) = (tmp_path / runner.timestamp).glob('*.log')
    text = log.read_text()
    assert 'batch_size: 4 before, 6 now' in text
    assert 'epoch_length: 3 before, 2 now' in text
    assert runner.epoch == 3
