"""Histories are those of the stock hook; values are fetched together."""

import types

import numpy as np
import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.hooks import RuntimeInfoHook as StockRuntimeInfoHook
from mmengine.logging import MessageHub

from mmdense.apis import running
from mmdense.engine.hooks import RuntimeInfoHook, runtime_info_hook
from mmdense.testing.tiny_training import tiny_training
from mmdense.utils.checkpoint import load_checkpoint_file


@pytest.fixture
def fetched(monkeypatch):
    """Numbers of values of each transfer."""
    calls = []
    real = runtime_info_hook.to_host

    def counting(rows):
        values = real(rows)
        calls.append(len(values))
        return values

    monkeypatch.setattr(runtime_info_hook, 'to_host', counting)
    return calls


def _histories(hub):
    scalars = hub['log_scalars'] if isinstance(hub, dict) else hub.log_scalars
    return {
        name: history.data
        for name, history in scalars.items()
        if 'time' not in name
    }


def _assert_equal(one, two):
    assert one.keys() == two.keys()
    for name, (values, counts) in one.items():
        np.testing.assert_array_equal(values, two[name][0], err_msg=name)
        np.testing.assert_array_equal(counts, two[name][1], err_msg=name)


@pytest.mark.slow
def test_hook__histories_of_the_stock_one(tmp_path, fetched):
    found, saved = [], []
    for kind in ('mmengine', 'mmdense'):
        folder = tmp_path / kind
        # 4 iterations an epoch
        cfg = tiny_training('dino', folder, images=16, epochs=2)
        cfg.default_hooks.runtime_info.type = f'{kind}.RuntimeInfoHook'
        cfg.default_hooks.logger.interval = 3
        cfg.default_hooks.checkpoint = {
            'type': 'CheckpointHook',
            'interval': 2,
            'by_epoch': False,
        }
        runner = running.build_runner(cfg)
        runner.train()
        first = runner.hooks[0]
        assert isinstance(first, RuntimeInfoHook) is (kind == 'mmdense')
        assert isinstance(first, StockRuntimeInfoHook)
        found.append(_histories(runner.message_hub))
        files = [folder / f'iter_{i}.pth' for i in (2, 4, 6, 8)]
        saved.append([load_checkpoint_file(file) for file in files])
        assert (kind == 'mmdense') is bool(fetched)
    _assert_equal(*found)
    outputs = [k for k in found[0] if k.startswith(('train/loss', 'train/te'))]
    assert len(outputs) >= 3
    assert all(len(found[0][name][0]) == 8 for name in outputs)
    for stock, ours in zip(*saved):
        _assert_equal(*(_histories(c['message_hub']) for c in (stock, ours)))
    # a checkpoint at 2 and 6, the logger at 3 and 7, epochs end at 4 and 8
    each = fetched[1]
    assert fetched == [2 * each, each, each] * 2


def _fake_runner(hub, hooks, length=10):
    optimizer = types.SimpleNamespace(get_lr=lambda: {'lr': [0.1]})
    return types.SimpleNamespace(
        message_hub=hub,
        hooks=hooks,
        epoch=0,
        iter=0,
        max_epochs=1,
        max_iters=length,
        optim_wrapper=optimizer,
        train_dataloader=torch.utils.data.DataLoader(range(length)),
    )


def _steps(hook, name, outputs, interval=4):
    hub = MessageHub.get_instance(name)
    runner = _fake_runner(hub, [hook, LoggerHook(interval=interval)])
    hook.last_loop_stage = None
    hook.before_train(runner)
    lengths = []
    for index, values in enumerate(outputs):
        hook.after_train_iter(runner, index, None, values)
        history = hub.log_scalars.get('train/loss')
        lengths.append(0 if history is None else len(history.data[0]))
    hook.after_train(runner)
    return hub, lengths


def test_hook__any_values_and_a_buffer_that_changes(tmp_path, fetched):
    """Dtypes, shapes, plain numbers, gradients; the last lot at the end."""

    def outputs():
        buffer = torch.zeros(())
        for index in range(7):
            buffer += 0.1
            weight = torch.tensor(1 / 3 + index, requires_grad=True)
            yield {
                'loss': weight * 2,
                'half': torch.tensor([0.1 * index], dtype=torch.bfloat16),
                'count': torch.tensor(2**24 + 1 + index),
                'buffer': buffer,
                'plain': index / 7,
                **({'rare': np.float64(index)} if index % 3 == 0 else {}),
            }
        yield None

    name = str(tmp_path)
    want, _ = _steps(StockRuntimeInfoHook(), f'{name}/stock', outputs())
    got, lengths = _steps(RuntimeInfoHook(), f'{name}/ours', outputs())
    _assert_equal(_histories(want), _histories(got))
    assert lengths == [0, 0, 0, 4, 4, 4, 4, 7]
    assert fetched == [16, 12]


def test_hook__end_of_training_and_values_that_are_no_number(tmp_path):
    outputs = [{'loss': torch.tensor(float(i))} for i in range(3)]
    hub, lengths = _steps(RuntimeInfoHook(), f'{tmp_path}/end', outputs)
    assert lengths == [0, 0, 0]
    assert hub.log_scalars['train/loss'].data[0].tolist() == [0, 1, 2]
    # as stock
    with pytest.raises(AssertionError):
        _steps(RuntimeInfoHook(), f'{tmp_path}/a', [{'loss': torch.ones(2)}])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_hook__does_not_wait_for_the_device(tmp_path):
    hook, hub = RuntimeInfoHook(), MessageHub.get_instance(f'{tmp_path}/gpu')
    runner = _fake_runner(hub, [hook, LoggerHook(interval=4)])
    hook.before_train(runner)
    values = [torch.tensor(i / 3, device='cuda') for i in range(4)]
    torch.cuda.set_sync_debug_mode('error')
    try:
        for index in range(3):
            outputs = {'loss': values[index], 'other': -values[index].half()}
            hook.after_train_iter(runner, index, None, outputs)
        with pytest.raises(RuntimeError, match='synchroniz'):
            values[0].item()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    # values of two devices
    outputs = {'loss': values[3], 'other': torch.tensor(5.0)}
    hook.after_train_iter(runner, 3, None, outputs)
    scalars = hub.log_scalars
    want = [value.item() for value in values]
    assert scalars['train/loss'].data[0].tolist() == want
    halves = [-value.half().item() for value in values[:3]]
    assert scalars['train/other'].data[0].tolist() == [*halves, 5.0]
