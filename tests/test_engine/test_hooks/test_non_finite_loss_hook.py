"""The step of a bad loss is saved, whole, and nothing is stepped with it."""

import random

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper as StockOptimWrapper
from mmengine.runner import Runner

from mmdense.apis import running
from mmdense.engine.hooks import NonFiniteLossHook
from mmdense.engine.hooks.step_seed_hook import MODEL, seed_step
from mmdense.engine.optimizers import NonFiniteLossError, optim_wrapper
from mmdense.testing.distributed import run_distributed
from mmdense.testing.tiny_training import tiny_training
from mmdense.utils.checkpoint import load_checkpoint_file
from mmdense.utils.errors import UserError
from mmdense.utils.step_record import set_rng_state

AT = 4


class _Poison(Hook):
    """Make a weight NaN just before an iteration, on one process."""

    def __init__(self, rank=0):
        self.rank = rank
        self.before = None

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter != AT or runner.rank != self.rank:
            return
        model = getattr(runner.model, 'module', runner.model)
        with torch.no_grad():
            model.backbone.layers[1].ffn.layers[0][0].bias[3] = float('nan')
        self.before = {k: v.clone() for k, v in model.state_dict().items()}


def _fail(tmp_path, method='dino', poison=True, options=None, **kwargs):
    """Train until the loss is bad; returns runner, poison and message."""
    cfg = tiny_training(method, tmp_path, epochs=3, **kwargs)
    if options is not None:
        hook = {'type': 'mmdense.NonFiniteLossHook', **options}
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), hook]
    runner = running.build_runner(cfg)
    hook = _Poison()
    if poison:
        runner.register_hook(hook)
    with pytest.raises(NonFiniteLossError) as info:
        runner.train()
    return runner, hook, str(info.value)


def _plain(value):
    if isinstance(value, dict):
        return all(
            type(k) in (str, int) and _plain(v) for k, v in value.items()
        )
    if isinstance(value, (list, tuple)):
        return all(_plain(v) for v in value)
    kinds = (torch.Tensor, bool, int, float, str, type(None))
    return type(value) in kinds


@pytest.mark.parametrize('method', ['dino', 'moby', 'selfpatch-dino'])
def test_record__what_the_file_holds(method, tmp_path):
    runner, hook, message = _fail(tmp_path, method)
    path = tmp_path / f'non_finite_iter_{AT}_rank0.pth'
    for words in (str(path), 'replay_step.py', f'iteration {AT}', 'lr'):
        assert words in message
    record = torch.load(path, weights_only=True)
    assert _plain(record)
    assert (record['iter'], record['epoch']) == (AT, 1)
    assert (record['rank'], record['world_size']) == (0, 1)
    assert record['seed'] == runner.seed
    assert not torch.isfinite(record['loss'])
    assert {'center_norm', 'pos_cos'} & set(record['losses'])
    # weights of the forward pass, without a step
    now = runner.model.state_dict()
    assert record['state_dict'].keys() == now.keys()
    for key, value in record['state_dict'].items():
        assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(now[key]))
        if 'running_' not in key and 'num_batches' not in key:
            want = torch.nan_to_num(hook.before[key])
            if not (method == 'moby' and key.startswith('teacher.')):
                assert torch.equal(torch.nan_to_num(value), want), key
    steps = {float(s['step']) for s in record['optimizer']['state'].values()}
    assert steps <= {float(AT), 1.0}
    # the batch, and where it comes from
    crops = 2 if method == 'moby' else 4
    assert len(record['batch']['inputs']) == crops
    assert all(c.dtype == torch.uint8 for c in record['batch']['inputs'])
    assert len(record['samples']) == 4
    for sample in record['samples']:
        assert sample['img_path'].endswith('.jpg')
        assert 0 <= sample['sample_idx'] < 12
    assert not list(tmp_path.glob('*.part'))


def test_record__random_states_are_those_of_the_step(tmp_path):
    """They are the states that StepSeedHook has set."""
    _fail(tmp_path)
    record = load_checkpoint_file(tmp_path / f'non_finite_iter_{AT}_rank0.pth')

    def draw():
        return random.random(), np.random.rand(), torch.rand(3).tolist()

    set_rng_state(record['rng'])
    got = draw()
    seed_step(record['seed'], 0, AT, MODEL)
    assert got == draw()


def test_save_batch__false_keeps_indices_alone(tmp_path):
    out = tmp_path / 'elsewhere'
    _fail(
        tmp_path / 'run',
        options={'save_batch': False, 'out_dir': str(out)},
    )
    record = load_checkpoint_file(out / f'non_finite_iter_{AT}_rank0.pth')
    assert record['batch'] is None
    assert len(record['samples']) == 4
    assert not list((tmp_path / 'run').glob('non_finite*'))


def test_capture__in_a_window_of_accumulation(tmp_path):
    runner, hook, _ = _fail(
        tmp_path, 'selfpatch-dino', batch_size=2, accumulative_counts=2
    )
    record = load_checkpoint_file(tmp_path / f'non_finite_iter_{AT}_rank0.pth')
    assert record['accumulative_counts'] == 2
    for key, value in record['state_dict'].items():
        same = torch.nan_to_num(value), torch.nan_to_num(hook.before[key])
        assert torch.equal(*same), key


def test_hook__needs_our_wrapper(tmp_path):
    runner = Runner.__new__(Runner)
    runner.optim_wrapper = StockOptimWrapper(
        torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    )
    with pytest.raises(UserError, match='mmdense.OptimWrapper'):
        NonFiniteLossHook().before_train(runner)


def test_after_train__listens_no_more(tmp_path):
    cfg = tiny_training('dino', tmp_path, epochs=2, images=4)
    runner = running.build_runner(cfg)
    runner.train()
    assert runner.optim_wrapper.on_forward is None
    assert runner.optim_wrapper.on_non_finite is None
    assert not runner.model._forward_hooks


def test_finite_run__leaves_nothing_behind(tmp_path, monkeypatch):
    """And the check is what decides: with another one it fails at once."""
    cfg = tiny_training('dino', tmp_path, epochs=2)
    running.build_runner(cfg).train()
    assert not list(tmp_path.glob('non_finite*'))
    monkeypatch.setattr(optim_wrapper, 'is_finite', lambda value: False)
    cfg = tiny_training('dino', tmp_path, epochs=2)
    with pytest.raises(NonFiniteLossError):
        running.build_runner(cfg).train()
    assert (tmp_path / 'non_finite_iter_0_rank0.pth').is_file()


def _two_processes(rank, world_size, root):
    import os

    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size)
    )
    cfg = tiny_training('dino', root, batch_size=2, epochs=3)
    runner = running.build_runner(cfg)
    runner._distributed = True
    runner.model = runner.wrap_model(None, runner.model)
    runner.register_hook(_Poison(rank=1))
    message = ''
    try:
        runner.train()
    except NonFiniteLossError as error:
        message = str(error)
    model = runner.model.module
    finite = all(torch.isfinite(p).all() for p in model.parameters())
    return message, runner.iter, bool(finite)


@pytest.mark.slow
@pytest.mark.dist
def test_two_processes__the_failing_one_saves_both_stop(tmp_path):
    one, two = run_distributed(_two_processes, 2, str(tmp_path))
    assert [p.name for p in tmp_path.glob('non_finite*')] == [
        f'non_finite_iter_{AT}_rank1.pth'
    ]
    assert one[1] == two[1] == AT
    assert 'another process' in one[0] and 'process 1' in two[0]
    # no gradient of the bad loss has reached the healthy process
    assert one[2] and not two[2]
