"""Several small batches, several processes: one step all the same."""

import os

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from mmdense.apis import running
from mmdense.engine.optimizers import OptimWrapper
from mmdense.registry import MODELS
from mmdense.testing.distributed import run_distributed
from mmdense.testing.tiny_training import tiny_model, tiny_training


def _model(method):
    torch.manual_seed(0)
    cfg = tiny_model(method)
    parts = cfg.get('method', cfg)
    # draws per image, in another order when batches are split
    parts['backbone']['drop_path_rate'] = 0.0
    with DefaultScope.overwrite_default_scope('mmdense'):
        model = MODELS.build(cfg)
    model.init_weights()
    return model.train()


def _crops(seed, batch=8):
    generator = torch.Generator().manual_seed(seed)
    sizes = (32, 32, 16, 16)
    return [
        torch.rand(batch, 3, s, s, generator=generator) * 255 for s in sizes
    ]


def _steps(method, parts, steps=3):
    """Some steps on the same images, in ``parts`` batches each."""
    model = _model(method)
    wrapper = OptimWrapper(
        torch.optim.SGD(
            [p for p in model.parameters() if p.requires_grad], lr=0.05
        ),
        accumulative_counts=parts,
        clip_grad={'type': 'per_tensor', 'max_norm': 3.0},
    )
    norms = []
    for step in range(steps):
        crops = [crop.chunk(parts) for crop in _crops(step)]
        model.before_step(step / steps)
        for part in range(parts):
            data = {
                'inputs': [crop[part] for crop in crops],
                'data_samples': None,
            }
            model.train_step(data, wrapper)
        model.after_step(step / steps)
        norms.append(wrapper.grad_norm.item())
    return model.state_dict(), norms


@pytest.mark.parametrize('parts', [2, 4])
@pytest.mark.parametrize('method', ['dino', 'selfpatch-dino'])
def test_accumulation__equals_one_large_batch(method, parts):
    """Weights, teacher, centres and the norm of the gradients."""
    want, norms = _steps(method, 1)
    got, our_norms = _steps(method, parts)
    start = _model(method).state_dict()
    np.testing.assert_allclose(our_norms, norms, rtol=1e-4)
    assert want.keys() == got.keys()
    moved = 0
    for key, value in want.items():
        torch.testing.assert_close(
            got[key], value, rtol=1e-4, atol=2e-6, msg=lambda m, k=key: k + m
        )
        change = (value - start[key]).abs().max()
        moved += bool(change > 1e-5)
    assert moved > len(want) / 3
    centres = [k for k in want if k.endswith('center')]
    assert len(centres) == (1 if method == 'dino' else 2)
    for key in centres:
        assert want[key].abs().max() > 1e-3


STATIC = {
    'type': 'MMDistributedDataParallel',
    'static_graph': True,
    'find_unused_parameters': False,
    'broadcast_buffers': False,
}


METHODS = ['dino', 'moby', 'selfpatch-dino', 'selfpatch-moby']


def _train(root, method, count, wrapper):
    """Final weights, and trained parameters that have not moved."""
    cfg = tiny_training(
        method, root, batch_size=2, epochs=2, accumulative_counts=count
    )
    cfg.launcher = 'none'
    # with it, the step is linear in the gradients
    cfg.optim_wrapper.optimizer = {
        'type': 'SGD',
        'lr': 0.02,
        'weight_decay': 0.04,
    }
    runner = running.build_runner(cfg)
    runner._distributed = True
    runner.model = runner.wrap_model(wrapper, runner.model)
    model = runner.model.module
    start = {k: v.clone() for k, v in model.state_dict().items()}
    runner.train()
    assert runner.model.static_graph is (wrapper is STATIC)
    assert not runner.model.find_unused_parameters
    still = [
        key
        for key, value in model.named_parameters()
        if value.requires_grad and torch.equal(value, start[key])
    ]
    torch.distributed.barrier()
    return {k: v.numpy().copy() for k, v in model.state_dict().items()}, still


def _two_processes(rank, world_size, root, count):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size)
    )
    return {
        method: [
            _train(f'{root}/{method}', method, count, wrapper)
            for wrapper in (STATIC, None)
        ]
        for method in METHODS
    }


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.parametrize('count', [1, 3])
def test_ddp__static_graph_trains_the_same(count, tmp_path):
    one, two = run_distributed(_two_processes, 2, str(tmp_path), count)
    for method in METHODS:
        (static, still), (dynamic, _) = one[method]
        # every parameter takes part
        assert still == []
        for key, value in static.items():
            where = f'{method}: {key}'
            # the processes stay together, each with its own BatchNorm
            if 'running_' not in key:
                np.testing.assert_array_equal(
                    value, two[method][0][0][key], err_msg=where
                )
            # with accumulation, the sums are rounded in another order
            np.testing.assert_allclose(
                value,
                dynamic[key],
                rtol=0 if count == 1 else 1e-4,
                atol=0 if count == 1 else 1e-5,
                err_msg=where,
            )
