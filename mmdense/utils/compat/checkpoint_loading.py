"""mmengine 0.10 cannot resume on torch >= 2.6, and trusts every file before.

mmengine calls ``torch.load`` with its default for ``weights_only``: since
torch 2.6 that refuses the ``HistoryBuffer`` objects of mmengine's own
checkpoints; before, it runs whatever the file says.
"""

import inspect
from types import ModuleType
from typing import Any, Optional

from ..checkpoint import (
    allow_mmengine_globals,
    load_checkpoint_file,
    local_file,
)
from .hooks_on_import import when_imported


def needed(module: ModuleType) -> bool:
    """Whether mmengine's local loader leaves ``weights_only`` open."""
    source = inspect.getsource(module.load_from_local)
    return 'weights_only' not in source


def load_from_url(
    filename: str,
    map_location: Any = None,
    model_dir: Optional[str] = None,
    progress: bool = True,
) -> Any:
    """Download a checkpoint once per machine and read it safely.

    Args:
        filename (str): http(s) address.
        map_location: As in ``torch.load``.
        model_dir (str, optional): Folder for the file. Defaults to torch
            hub's folder for checkpoints.
        progress (bool): Show a progress bar. Defaults to True.

    Returns:
        Any: What the file holds.
    """
    path = local_file(filename, model_dir, progress)
    return load_checkpoint_file(path, map_location)


def _load_local(filename: str, map_location: Any = None) -> Any:
    return load_checkpoint_file(filename, map_location)


def _mend(module: ModuleType) -> None:
    if not needed(module):
        return
    allow_mmengine_globals()
    loader = module.CheckpointLoader
    loader.register_scheme(prefixes='', loader=_load_local, force=True)
    loader.register_scheme(
        prefixes=('http://', 'https://'), loader=load_from_url, force=True
    )


def install() -> None:
    """Mend mmengine's checkpoint loader when it is imported."""
    when_imported('mmengine.runner.checkpoint', _mend)
