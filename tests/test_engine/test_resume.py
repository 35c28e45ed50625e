"""N steps equal k steps, a restart, and N - k steps, bit for bit."""

import contextlib
import random
import uuid

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdense.apis import running
from mmdense.engine.hooks.step_seed_hook import seed_step
from mmdense.testing.distributed import run_distributed
from mmdense.testing.launch import ROOT
from mmdense.testing.tiny_training import tiny_training
from mmdense.utils.checkpoint import load_checkpoint_file

CONFIG = (
    ROOT / 'configs/local_global/'
    'local-global_vit-demo-p16_1xb32-coslr-70e_demo-96px.py'
)


def _config(work_dir, workers, epochs=4):
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(work_dir)
    # runs of the same second would share mmengine's log of scalars
    cfg.experiment_name = uuid.uuid4().hex
    cfg.model.backbone.arch = {
        'embed_dims': 24,
        'num_layers': 2,
        'num_heads': 3,
        'feedforward_channels': 48,
    }
    # drop path draws from the generators that a resume has to restore
    cfg.model.backbone.drop_path_rate = 0.5
    cfg.model.neck.update(in_channels=24, hid_channels=32, out_channels=16)
    loader = cfg.train_dataloader
    loader.batch_size = 4
    loader.num_workers = workers
    loader.dataset.paths = str(ROOT / 'demo/data/rooms/val')
    cfg.train_cfg.max_epochs = epochs
    cfg.default_hooks.checkpoint = {'type': 'CheckpointHook', 'interval': 1}
    cfg.default_hooks.logger.interval = 1
    running.set_loader_defaults(cfg)
    return cfg


def _train(cfg, stop_after=None):
    runner = running.build_runner(cfg)
    if stop_after is not None:
        real = runner.train_loop.run_epoch

        def run_epoch():
            if runner.epoch == stop_after:
                raise KeyboardInterrupt
            real()

        runner._train_loop = runner.build_train_loop(runner._train_loop)
        runner.train_loop.run_epoch = run_epoch
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    else:
        runner.train()
    return runner


def _equal(one, two, path=''):
    if isinstance(one, dict):
        assert one.keys() == two.keys(), path
        for key in one:
            _equal(one[key], two[key], f'{path}.{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two), path
        for index, (a, b) in enumerate(zip(one, two)):
            _equal(a, b, f'{path}[{index}]')
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), path
    else:
        assert one == two, path


def _final(work_dir, epochs=4):
    return load_checkpoint_file(work_dir / f'epoch_{epochs}.pth')


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
def test_resume__is_bit_exact(tmp_path, workers):
    straight, broken = tmp_path / 'straight', tmp_path / 'broken'
    _train(_config(straight, workers))
    _train(_config(broken, workers), stop_after=2)
    # what happened in between must not matter
    random.random(), np.random.rand(3), torch.rand(3)
    cfg = _config(broken, workers)
    cfg.resume = True
    runner = _train(cfg)
    assert runner.iter == 40
    want, got = _final(straight), _final(broken)
    _equal_runs(want, got)


def _equal_runs(want, got):
    """Everything of two final checkpoints, logged values included."""
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        _equal(want[part], got[part], part)
    histories = want['message_hub']['log_scalars']
    assert histories.keys() == got['message_hub']['log_scalars'].keys()
    for name, history in histories.items():
        if 'time' in name:
            continue
        ours = got['message_hub']['log_scalars'][name]
        np.testing.assert_array_equal(
            history.data[0], ours.data[0], err_msg=name
        )


METHODS = ['dino', 'moby', 'selfpatch-dino', 'selfpatch-moby']


@pytest.mark.slow
@pytest.mark.parametrize('count', [1, 2])
@pytest.mark.parametrize('method', METHODS)
def test_resume__methods_with_a_teacher(method, count, tmp_path):
    """Teacher, centres, queues, schedules, optimiser and logged values."""
    straight, broken = tmp_path / 'straight', tmp_path / 'broken'
    options = {
        'images': 16,
        'batch_size': 4 // count,
        'accumulative_counts': count,
    }
    _train(tiny_training(method, straight, **options))
    _train(tiny_training(method, broken, **options), stop_after=2)
    random.random(), np.random.rand(3), torch.rand(3)
    cfg = tiny_training(method, broken, **options)
    cfg.resume = True
    runner = _train(cfg)
    assert runner.iter == 16 * count
    want, got = _final(straight), _final(broken)
    _equal_runs(want, got)
    # what has to be taken up again does move
    half = _final(straight, 2)['state_dict']
    moving = [
        k for k, v in half.items() if not torch.equal(v, got['state_dict'][k])
    ]
    for part in ('teacher.backbone', 'backbone'):
        assert any(part in key for key in moving)
    buffers = {'dino': ('center',), 'moby': ('queue1', 'queue2')}
    for name in buffers[method.split('-')[-1]]:
        assert any(key.endswith(name) for key in moving), name


@pytest.mark.slow
def test_train__does_not_depend_on_the_number_of_workers(tmp_path):
    for workers in (0, 2):
        _train(_config(tmp_path / str(workers), workers, epochs=1))
    want, got = (_final(tmp_path / w, 1) for w in '02')
    _equal(want['state_dict'], got['state_dict'])


def test_seed_step__is_a_function_of_seed_rank_and_iteration():
    def draw(*args):
        seed_step(*args)
        return random.random(), np.random.rand(), torch.rand(1).item()

    base = draw(0, 0, 0, 0)
    assert draw(0, 0, 0, 0) == base
    for other in ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)):
        assert all(a != b for a, b in zip(draw(*other), base))


def _distributed_runner(cfg):
    """Runner of a config on the processes that are there already."""
    cfg.launcher = 'none'
    runner = running.build_runner(cfg)
    runner._distributed = True
    wrapper = cfg.get('model_wrapper_cfg')
    runner.model = runner.wrap_model(wrapper, runner.model)
    return runner


def _two_process_resume(rank, world_size, root, method):
    import os
    from pathlib import Path

    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size)
    )
    root = Path(root)
    for name, epochs, resume in (
        ('straight', 2, False),
        ('broken', 1, False),
        ('broken', 2, True),
    ):
        if method == 'local-global':
            cfg = _config(root / name, 0, epochs=2)
        else:
            cfg = tiny_training(
                method,
                root / name,
                batch_size=2,
                epochs=2,
                accumulative_counts=3,
            )
            cfg.model_wrapper_cfg = {
                'type': 'MMDistributedDataParallel',
                'static_graph': True,
                'broadcast_buffers': False,
            }
        cfg.resume = resume
        runner = _distributed_runner(cfg)
        if epochs == 1:
            runner._train_loop = runner.build_train_loop(runner._train_loop)
            real = runner.train_loop.run_epoch

            def run_epoch(runner=runner, real=real):
                if runner.epoch == 1:
                    raise KeyboardInterrupt
                real()

            runner.train_loop.run_epoch = run_epoch
            with contextlib.suppress(KeyboardInterrupt):
                runner.train()
        else:
            runner.train()
        torch.distributed.barrier()
    return True


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.parametrize('method', ['local-global', 'selfpatch-dino', 'moby'])
def test_resume__is_bit_exact_on_two_processes(method, tmp_path):
    run_distributed(_two_process_resume, 2, str(tmp_path), method)
    want, got = (_final(tmp_path / n, 2) for n in ('straight', 'broken'))
    _equal(want['state_dict'], got['state_dict'])
    _equal(want['optimizer'], got['optimizer'])
    if method == 'moby':
        # keys of both processes: 3 iterations of 2 images on each of 2
        first = _final(tmp_path / 'straight', 1)['state_dict']
        assert int(first['loss_module.queue_ptr']) == 12
        for name in ('queue1', 'queue2'):
            key = f'loss_module.{name}'
            assert not torch.equal(first[key], got['state_dict'][key])
