"""Where the weights of a fine-tuning come from, and what they are."""

import json
import os
import os.path as osp
import re
import shutil
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from mmengine.config import Config

from ..results.config_hash import read_config_text
from ..results.plan import gpus_of
from ..results.rows import file_hash
from ..results.zoo import Zoo, public_weights
from ..utils.checkpoint import local_file
from ..utils.errors import UserError
from ..utils.zoo_root import zoo_root
from .stages import write_text

# mmengine adds when the training began
_STARTED = re.compile(r'_\d{8}_\d{6}$')


class MissingWeightsError(UserError, FileNotFoundError):
    """The weights to start from are not there; says how to get them."""


def is_export(raw: Any) -> bool:
    """Whether a checkpoint is a backbone that mmdense has exported."""
    meta = raw.get('meta') if isinstance(raw, dict) else None
    return isinstance(meta, dict) and 'mmdense_export' in meta


def origin_file(export: str) -> str:
    """Where is written what an export was made of."""
    return f'{export}.json'


def read_origin(export: str) -> Optional[Dict[str, Any]]:
    """What a shared export was made of.

    Args:
        export (str): The export.

    Returns:
        dict or None: ``config``, ``source``, ``source_hash`` and
        ``export_hash``; None if that is not known, or known of another file
        that was there before.
    """
    try:
        origin = json.loads(Path(origin_file(export)).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(origin, dict) or 'source_hash' not in origin:
        return None
    if origin.get('export_hash') != file_hash(export):
        return None
    return origin


def share(export: str, target: str, source: str, config: str) -> None:
    """Put an export where the configs look for it, with its origin.

    Args:
        export (str): The file.
        target (str): Written in one step.
        source (str): Checkpoint that it was made of.
        config (str): Pre-training config of that, by its stem.
    """
    os.makedirs(osp.dirname(target) or '.', exist_ok=True)
    part = f'{target}.{os.getpid()}.part'
    shutil.copyfile(export, part)
    os.replace(part, target)
    origin = dict(
        config=config,
        source=source,
        source_hash=file_hash(source),
        export_hash=file_hash(target),
    )
    write_text(Path(origin_file(target)), json.dumps(origin, indent=2))


def pretraining_of(raw: Any, path: str, named: Mapping[str, Any]) -> dict:
    """``benchmark.pretraining`` of weights that the user gives.

    Args:
        raw (Any): The file's content.
        path (str): The file.
        named (Mapping[str, Any]): ``benchmark.pretraining`` of the config.

    Returns:
        dict: What the config says, with the epochs that the file has seen,
        if both are of one pre-training config; else ``method`` alone, as the
        file names it or None. ``checkpoint`` is the file.
    """
    meta = raw.get('meta') if isinstance(raw, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    method = None
    if is_export(raw):
        origin = read_origin(path) or {}
        stem = origin.get('config')
    else:
        stem = _STARTED.sub('', str(meta.get('experiment_name') or ''))
        model = (read_config_text(meta.get('cfg')) or {}).get('model') or {}
        method = model.get('type')
    if not stem or stem != named.get('config'):
        return {'checkpoint': path, 'method': method}
    result = dict(named, checkpoint=path)
    if 'epochs' in named and isinstance(meta.get('epoch'), int):
        loop = (read_config_text(meta.get('cfg')) or {}).get('train_cfg') or {}
        planned = loop.get('max_iters')
        if not planned:
            result['epochs'] = meta['epoch']
        elif meta.get('iter', 0) < planned:
            # what an epoch is there, the config alone knows
            share = meta.get('iter', 0) / planned
            result['epochs'] = round(named['epochs'] * share, 2)
    return result


def public_place(name: str) -> Optional[str]:
    """Where a test of public weights looks for their file.

    Args:
        name (str): Key of ``configs/public_weights.yml``.

    Returns:
        str or None: In the folder ``checkpoints``; None for an unknown key.
    """
    entry = public_weights(zoo_root()).get(name)
    return None if entry is None else f'checkpoints/{entry["File"]}'


def fetch_public(name: str, path: str, download: bool = False) -> None:
    """Download public weights, or say how.

    Args:
        name (str): Key of ``configs/public_weights.yml``.
        path (str): Where to put them.
        download (bool): Fetch them. Defaults to False.

    Raises:
        MissingWeightsError: If they have no address, or may not be fetched.
        CheckpointError: If the address cannot be read.
    """
    entry = public_weights(zoo_root()).get(name) or {}
    url, page = entry.get('URL'), entry.get('Page')
    if url and download:
        fetched = local_file(url, folder=osp.dirname(path) or '.')
        if osp.abspath(fetched) != osp.abspath(path):
            os.replace(fetched, path)
        return
    where = f'Fetch {url}' if url else f'Get them from {page or name}'
    more = ', or pass --download' if url else ''
    raise MissingWeightsError(
        f'The public weights {name!r} are not at {path}. {where} and put '
        f'the file there{more}.'
    )


def readable_path(path: str) -> str:
    """A path without links, from the working directory on if it is there."""
    # .mim of a checkout links to its configs
    path = osp.realpath(path)
    short = osp.relpath(path)
    return path if short.startswith(osp.pardir) else short


def _pretraining_config(name: str) -> Optional[str]:
    path = Zoo(zoo_root()).files.get(name)
    return None if path is None else readable_path(str(path))


def how_to_pretrain(name: str) -> str:
    """What to do for the checkpoint of a pre-training config.

    Args:
        name (str): Its stem.

    Returns:
        str: A sentence with a command, or that there is no such config.
    """
    path = _pretraining_config(name)
    if path is None:
        return (
            'This pre-training config does not exist yet. Pass --weights FILE'
        )
    processes = gpus_of(name)
    command = f'python tools/train.py {path} --resume'
    if processes != 1:
        command = f'bash tools/dist_train.sh {path} {processes} --resume'
    return f'Pre-train with\n  {command}\nor pass --weights FILE'


def unfinished(name: str, checkpoint: str) -> Optional[str]:
    """A note if a checkpoint is not the end of its training.

    Args:
        name (str): Pre-training config in the zoo.
        checkpoint (str): ``epoch_N.pth`` or ``iter_N.pth``.

    Returns:
        str or None: None if it is, or if that cannot be told.
    """
    path = _pretraining_config(name)
    found = re.search(r'(epoch|iter)_(\d+)\.pth$', checkpoint)
    if path is None or found is None:
        return None
    key = 'max_epochs' if found[1] == 'epoch' else 'max_iters'
    planned = Config.fromfile(path).train_cfg.get(key)
    if planned is None or int(found[2]) >= planned:
        return None
    return f'{checkpoint} is not the end of its training, {key}={planned}'
