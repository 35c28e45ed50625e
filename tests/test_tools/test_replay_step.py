"""A saved step is run again, to the bit."""

import re

import pytest
import torch
from mmengine.hooks import Hook

from mmdense.apis import running
from mmdense.engine.optimizers import NonFiniteLossError, optim_wrapper
from mmdense.testing.launch import run_tool
from mmdense.testing.tiny_training import tiny_training
from mmdense.utils.checkpoint import load_checkpoint_file

TOOL = 'analysis_tools/replay_step.py'
AT = 4


def _record(work_dir, method='dino', hook=None, options=None, **kwargs):
    """Train until the check fails; returns the path of the record."""
    cfg = tiny_training(method, work_dir, epochs=3, **kwargs)
    if options:
        own = {'type': 'mmdense.NonFiniteLossHook', **options}
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), own]
    runner = running.build_runner(cfg)
    if hook is not None:
        runner.register_hook(hook)
    with pytest.raises(NonFiniteLossError):
        runner.train()
    return work_dir / f'non_finite_iter_{AT}_rank0.pth'


def _flag_a_finite_loss(monkeypatch):
    """Let the check of iteration ``AT`` refuse whatever it gets."""
    calls = iter(range(1000))
    monkeypatch.setattr(
        optim_wrapper, 'is_finite', lambda value: next(calls) != AT
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    'method', ['dino', 'moby', 'selfpatch-dino', 'selfpatch-moby']
)
def test_replay__the_very_loss(method, tmp_path, monkeypatch):
    _flag_a_finite_loss(monkeypatch)
    path = _record(tmp_path, method)
    loss = load_checkpoint_file(path)['loss']
    assert torch.isfinite(loss)
    out = run_tool(TOOL, path, '--device', 'cpu').stdout
    assert 'the loss of the run is reproduced: yes' in out
    assert 'gradients: all finite' in out
    assert 'weights and buffers: all finite' in out
    assert 'first module with an output that is not finite: none' in out
    now, then = re.search(r'sum of the losses +(\S+) +(\S+)', out).groups()
    assert now == then == f'{float(loss):.8g}'


@pytest.mark.slow
@pytest.mark.parametrize('batch', ['saved', 'read again'])
def test_replay__augmentations_can_be_drawn_again(
    batch, tmp_path, monkeypatch
):
    """Without the batch, files and seeds give the same crops."""
    _flag_a_finite_loss(monkeypatch)
    options = {'save_batch': batch == 'saved'}
    path = _record(tmp_path, options=options)
    out = run_tool(TOOL, path, '--device', 'cpu', '--hooks-off').stdout
    assert ('files are read again' in out) is (batch != 'saved')
    assert 'the loss of the run is reproduced: yes' in out
    assert 'first module' not in out


class _Poison(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == AT:
            with torch.no_grad():
                layer = runner.model.backbone.layers[1].ffn.layers[0][0]
                layer.weight[3] = 3e38


@pytest.mark.slow
def test_replay__names_the_first_module_and_bad_gradients(tmp_path):
    path = _record(tmp_path, hook=_Poison())
    out = run_tool(TOOL, path, '--device', 'cpu').stdout
    assert 'weights and buffers: all finite' in out
    first = re.search('output that is not finite: (.*)', out)[1]
    assert first.startswith('backbone.layers.1.ffn.layers.0.0 (Linear)')
    assert 'its input is finite' in first
    assert re.search(r'gradients: \d+ not finite', out)
    assert 'the loss of the run is reproduced: yes' in out
    for index in load_checkpoint_file(path)['samples']:
        assert f'sample {index["sample_idx"]}: {index["img_path"]}' in out
    out = run_tool(TOOL, path, '--device', 'cpu', '--detect-anomaly').stdout
    assert re.search(r'backward: .*returned nan values', out)


def test_replay__another_file_is_refused(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save({'state_dict': {}, 'meta': {}}, path)
    done = run_tool(TOOL, path, check=False)
    assert done.returncode == 2
    assert 'is no record of mmdense.NonFiniteLossHook' in done.stdout
    assert 'Traceback' not in done.stdout
