"""mmengine's distributed and mixed-precision set-up on machines without GPU.

* ``init_dist`` calls ``torch.cuda.set_device`` whatever the machine has;
* the DDP wrapper is given ``device_ids`` for models on the CPU;
* SyncBN layers are kept, which only work on a GPU;
* ``AmpOptimWrapper`` refuses to be built.
"""

import inspect
import logging
import os
from functools import wraps
from types import ModuleType
from typing import Any

import torch

from .hooks_on_import import rebind, when_imported


def has_accelerator() -> bool:
    """Whether mmengine would train on anything but the CPU."""
    from mmengine.device import get_device

    return get_device() != 'cpu'


def _log(message: str, level: int = logging.WARNING) -> None:
    from mmengine.logging import print_log

    print_log(message, logger='current', level=level)


def _init_gloo(**kwargs: Any) -> None:
    kwargs.pop('init_backend', None)
    torch.distributed.init_process_group(backend='gloo', **kwargs)


def _slurm_environment(port: Any) -> None:
    """Set what ``init_process_group`` reads, from slurm's variables."""
    import subprocess

    env = os.environ
    if port is not None:
        env['MASTER_PORT'] = str(port)
    env.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in env:
        nodes = env['SLURM_NODELIST']
        hosts = subprocess.check_output(
            ['scontrol', 'show', 'hostname', nodes], text=True
        )
        env['MASTER_ADDR'] = hosts.split()[0]
    env['WORLD_SIZE'] = env['SLURM_NTASKS']
    env['RANK'] = env['SLURM_PROCID']
    env['LOCAL_RANK'] = env.get('SLURM_LOCALID', '0')


def _mend_init_dist(module: Any) -> None:
    """Choose gloo, and touch no CUDA device, where there is none."""
    if 'torch.cuda.set_device' not in inspect.getsource(
        module._init_dist_pytorch
    ):
        return
    stock_pytorch = module._init_dist_pytorch
    stock_slurm = module._init_dist_slurm
    stock_mpi = module._init_dist_mpi

    @wraps(stock_pytorch)
    def init_pytorch(backend: str, **kwargs: Any) -> None:
        if has_accelerator():
            return stock_pytorch(backend, **kwargs)
        return _init_gloo(**kwargs)

    @wraps(stock_slurm)
    def init_slurm(backend: str, port: Any = None, **kwargs: Any) -> None:
        if has_accelerator():
            return stock_slurm(backend, port=port, **kwargs)
        _slurm_environment(port)
        return _init_gloo(**kwargs)

    @wraps(stock_mpi)
    def init_mpi(backend: str, **kwargs: Any) -> None:
        if has_accelerator():
            return stock_mpi(backend, **kwargs)
        env = os.environ
        env.setdefault('MASTER_PORT', '29500')
        env.setdefault('MASTER_ADDR', '127.0.0.1')
        env['WORLD_SIZE'] = env['OMPI_COMM_WORLD_SIZE']
        env['RANK'] = env['OMPI_COMM_WORLD_RANK']
        env['LOCAL_RANK'] = env['OMPI_COMM_WORLD_LOCAL_RANK']
        return _init_gloo(**kwargs)

    module._init_dist_pytorch = init_pytorch
    module._init_dist_slurm = init_slurm
    module._init_dist_mpi = init_mpi


def _mend_ddp(module: ModuleType) -> None:
    """Drop ``device_ids`` when the wrapped model is on the CPU."""
    wrapper = module.MMDistributedDataParallel
    stock_init = wrapper.__init__

    @wraps(stock_init)
    def init(self: Any, module: torch.nn.Module, **kwargs: Any) -> None:
        if all(p.device.type == 'cpu' for p in module.parameters()):
            kwargs['device_ids'] = None
            kwargs['output_device'] = None
        stock_init(self, module, **kwargs)

    wrapper.__init__ = init


def _mend_sync_bn(module: ModuleType) -> None:
    """Use plain BN, each process on its own, where SyncBN cannot run."""
    runner = module.Runner
    stock_wrap = runner.wrap_model

    @wraps(stock_wrap)
    def wrap_model(self: Any, model_wrapper_cfg: Any, model: Any) -> Any:
        from mmengine.model import is_model_wrapper, revert_sync_batchnorm

        if (
            self.distributed
            and not has_accelerator()
            and not is_model_wrapper(model)
        ):
            if self.cfg.get('sync_bn') is not None:
                self.cfg.sync_bn = None
            if any(
                isinstance(m, torch.nn.SyncBatchNorm) for m in model.modules()
            ):
                _log(
                    'SyncBN needs a GPU: BN with statistics of each process '
                    'is used instead.'
                )
            model = revert_sync_batchnorm(model)
        return stock_wrap(self, model_wrapper_cfg, model)

    runner.wrap_model = wrap_model


class _IdentityScaler:
    """What remains of a GradScaler when nothing is scaled."""

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        return loss

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        return None

    def step(self, optimizer: torch.optim.Optimizer, **kwargs: Any) -> Any:
        return optimizer.step(**kwargs)

    def update(self, new_scale: Any = None) -> None:
        return None

    def get_scale(self) -> float:
        return 1.0

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        return None


def _mend_amp(module: ModuleType) -> None:
    """Let ``AmpOptimWrapper`` run on the CPU.

    ``bfloat16`` autocasts; ``float16`` and the default dtype, which the CPU
    cannot train in, run in full precision.
    """
    wrapper = module.AmpOptimWrapper
    if 'is only available training' not in inspect.getsource(wrapper.__init__):
        return
    stock_init = wrapper.__init__
    stock_context = wrapper.optim_context

    @wraps(stock_init)
    def init(
        self: Any,
        loss_scale: Any = 'dynamic',
        dtype: Any = None,
        use_fsdp: bool = False,
        **kwargs: Any,
    ) -> None:
        if has_accelerator():
            stock_init(
                self,
                loss_scale=loss_scale,
                dtype=dtype,
                use_fsdp=use_fsdp,
                **kwargs,
            )
            return
        super(wrapper, self).__init__(**kwargs)
        if isinstance(dtype, str):
            if dtype not in self.valid_dtypes:
                raise ValueError(
                    f'optim_wrapper.dtype={dtype!r}: choose from '
                    f'{self.valid_dtypes}'
                )
            dtype = getattr(torch, dtype)
        self._scale_update_param = None
        self.loss_scaler = _IdentityScaler()
        self.cast_dtype = dtype
        if dtype != torch.bfloat16:
            _log(
                'Mixed precision in float16 needs a GPU: training in float32. '
                "dtype='bfloat16' would autocast on the CPU too."
            )

    def optim_context(self: Any, model: torch.nn.Module) -> Any:
        if has_accelerator() or self.cast_dtype == torch.bfloat16:
            return stock_context(self, model)
        return super(wrapper, self).optim_context(model)

    wrapper.__init__ = init
    wrapper.optim_context = optim_context


def _mend_autocast(module: Any) -> None:
    """Accept float16 autocast requests (``test_cfg.fp16``) on the CPU."""
    stock = module.autocast

    @wraps(stock)
    def autocast(
        device_type: Any = None,
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: Any = None,
    ) -> Any:
        if dtype == torch.float16 and not has_accelerator():
            enabled, dtype = False, None
        return stock(device_type, dtype, enabled, cache_enabled)

    module.autocast = autocast
    rebind(stock, autocast, ('mmengine', 'mmpretrain', 'mmseg', 'mmdet'))


def install() -> None:
    """Mend each part when its module is imported."""
    when_imported('mmengine.dist.utils', _mend_init_dist)
    when_imported('mmengine.model.wrappers.distributed', _mend_ddp)
    when_imported('mmengine.runner.runner', _mend_sync_bn)
    when_imported('mmengine.runner.amp', _mend_autocast)
    when_imported('mmengine.optim.optimizer.amp_optimizer_wrapper', _mend_amp)
