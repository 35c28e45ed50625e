"""What changes between a run and its continuation is said."""

import logging
import re
import types

import pytest
import torch
from torch import nn

from mmdense.apis import running
from mmdense.engine.hooks import ResumeCheckHook, resume_check_hook
from mmdense.engine.hooks.resume_check_hook import head_counts
from mmdense.engine.optimizers import OptimWrapper
from mmdense.registry import MODELS
from mmdense.testing.tiny_training import tiny_model, tiny_training
from mmdense.utils.errors import UserError


def _runner(
    model=None,
    batch=4,
    count=1,
    length=10,
    iters=30,
    resume=True,
    messages=None,
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
        max_iters=iters,
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


def test_hook__counts_the_samples():
    checkpoint = {}
    ResumeCheckHook().before_save_checkpoint(
        _runner(batch=4, length=10), checkpoint
    )
    assert checkpoint['mmdense_run']['train_samples'] == 40


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
        (
            {'iters': 60},
            (1, 1),
            ['max_iters: 30 before, 60 now', 'of the old run', 'momentum'],
        ),
    ],
)
def test_hook__says_what_changes(monkeypatch, now, worlds, words):
    (message,) = _said(monkeypatch, {}, now, worlds)
    for part in words:
        assert part in message
    # nothing is said of what stays
    changed = re.findall(r'\S+ before, \S+ now', message)
    assert len(changed) == len(now) + (worlds[0] != worlds[1])


def test_hook__another_model_is_refused(monkeypatch):
    now = {'model': nn.Conv2d(1, 1, 1)}
    with pytest.raises(UserError) as info:
        _said(monkeypatch, {}, now)
    for words in ('Linear', 'Conv2d', 'load_from', 'export_backbone.py'):
        assert words in str(info.value)
    # loading its weights without resuming is what the message advises
    assert _said(monkeypatch, {}, {**now, 'resume': False}) == []


def test_hook__checkpoint_of_before_max_iters_was_kept():
    messages, checkpoint, hook = [], {}, ResumeCheckHook()
    runner = _runner(messages=messages)
    hook.before_save_checkpoint(runner, checkpoint)
    facts = checkpoint[resume_check_hook.KEY]
    del facts['max_iters'], facts['num_heads']
    hook.after_load_checkpoint(runner, checkpoint)
    assert messages == []


def _attention(*heads, part='backbone'):
    blocks = [nn.MultiheadAttention(12, count) for count in heads]
    layers = nn.ModuleDict({'layers': nn.ModuleList(blocks)})
    return nn.ModuleDict({part: layers})


def test_head_counts__one_entry_per_part():
    assert head_counts(nn.Linear(1, 1)) == {}
    assert head_counts(_attention(3, 3, 3)) == {'backbone': [3]}
    assert head_counts(_attention(3, 6, 6)) == {'backbone': [3, 6]}
    layer = nn.MultiheadAttention(12, 4)
    assert head_counts(nn.Sequential(layer)) == {'': [4]}
    found = head_counts(MODELS.build(tiny_model('selfpatch-dino')))
    assert found == {'method.backbone': [2], 'method.pool': [2]}


@pytest.mark.parametrize('resume', [True, False])
def test_hook__another_number_of_heads(monkeypatch, resume):
    before = {'model': _attention(3, 3)}
    now = {'model': _attention(6, 6), 'resume': resume}
    (message,) = _said(monkeypatch, before, now)
    assert 'num_heads' in message
    assert 'backbone: [3] before, [6] now' in message
    assert _said(monkeypatch, before, {**before, 'resume': resume}) == []
    # a part that the checkpoint does not have tells nothing
    other = {'model': _attention(6, part='pool'), 'resume': resume}
    assert _said(monkeypatch, before, other) == []


@pytest.mark.slow
def test_load_from__with_other_heads_warns(tmp_path):
    running.build_runner(tiny_training('dino', tmp_path, epochs=2)).train()
    cfg = tiny_training('dino', tmp_path / 'second', epochs=2)
    cfg.load_from = str(tmp_path / 'epoch_2.pth')
    cfg.model.backbone.arch.num_heads = 4
    runner = running.build_runner(cfg)
    runner.train()
    (log,) = (tmp_path / 'second' / runner.timestamp).glob('*.log')
    assert 'backbone: [2] before, [4] now' in log.read_text()


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


@pytest.mark.slow
def test_resume__of_another_method_is_refused(tmp_path):
    running.build_runner(tiny_training('dino', tmp_path, epochs=2)).train()
    cfg = tiny_training('selfpatch-dino', tmp_path, epochs=2)
    cfg.resume = True
    with pytest.raises(UserError, match='trained DINO.* trains SelfPatch'):
        running.build_runner(cfg).train()
