"""``collate_fn`` dicts inherited from another toolbox carry ``_scope_``.

mmengine stamps the scope on every inherited dict and then passes it on to
the collate function, which does not know it.
"""

from functools import wraps
from types import ModuleType
from typing import Any

from .hooks_on_import import when_imported


def needed(runner: Any) -> bool:
    """Whether ``Runner.build_dataloader`` passes ``_scope_`` on."""
    from torch.utils.data import SequentialSampler

    probe = {
        'dataset': [0],
        'sampler': SequentialSampler([0]),
        'batch_size': 1,
        'num_workers': 0,
        'collate_fn': {'type': 'default_collate', '_scope_': 'mmdense'},
    }
    loader = runner.build_dataloader(probe)
    return '_scope_' in getattr(loader.collate_fn, 'keywords', {})


def _mend(module: ModuleType) -> None:
    runner = module.Runner
    if not needed(runner):
        return
    stock = runner.build_dataloader

    @wraps(stock)
    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(dataloader, dict):
            for key in ('collate_fn', 'worker_init_fn'):
                value = dataloader.get(key)
                if isinstance(value, dict) and '_scope_' in value:
                    dataloader = {**dataloader, key: dict(value)}
                    dataloader[key].pop('_scope_')
        return stock(dataloader, *args, **kwargs)

    runner.build_dataloader = staticmethod(build_dataloader)


def install() -> None:
    """Mend the runner when it is imported."""
    when_imported('mmengine.runner.runner', _mend)
