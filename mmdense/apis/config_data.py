"""Mistakes of a config that concern its data, and strictness in tests."""

import os
import re
from typing import Any, Dict, Iterator, List, Optional, Sequence

from mmengine import registry as root


def is_local(path: str) -> bool:
    """Whether a path is one of a local disk.

    Args:
        path (str): Path or URL.

    Returns:
        bool: False for URLs and S3.
    """
    return '://' not in path and not path.startswith('s3:')


def option_of(path: str) -> str:
    """A key as ``--cfg-options`` takes it.

    Args:
        path (str): For instance 'train_dataloader.dataset.datasets[4]'.

    Returns:
        str: For instance 'train_dataloader.dataset.datasets.4'.
    """
    return re.sub(r'\[(\d+)\]', r'.\1', path).lstrip('.')


def _absent(node: Any) -> bool:
    """Whether the folder of a data set is not there."""
    folder = node.get('data_root') if isinstance(node, dict) else None
    return (
        isinstance(folder, str)
        and bool(folder)
        and is_local(folder)
        and not os.path.isdir(folder)
    )


def may_be_absent(path: str, node: Dict[str, Any]) -> Optional[str]:
    """Data sets that a mixture leaves out if they are not there.

    Args:
        path (str): Key of the mixture.
        node (dict): Its config.

    Returns:
        str, optional: Start of their keys; None if ``missing`` is not
        'skip', or none of them is there.
    """
    parts = node.get('datasets')
    if node.get('missing') != 'skip' or not isinstance(parts, (list, tuple)):
        return None
    return None if all(map(_absent, parts)) else f'{path}.datasets['


def check_paths(path: str, node: Dict[str, Any]) -> List[str]:
    """Data roots and checkpoints that are not there.

    Args:
        path (str): Key of the dict.
        node (dict): The dict.

    Returns:
        List[str]: One line per mistake.
    """
    problems = []
    if _absent(node):
        problems.append(
            f'{path}.data_root: no folder {node["data_root"]!r} (looked from '
            f'{os.getcwd()}). Put or link the data there, or pass '
            f'--cfg-options {option_of(path)}.data_root=DIR.'
        )
    checkpoint = node.get('checkpoint')
    if isinstance(checkpoint, str) and is_local(checkpoint):
        if not os.path.isfile(os.path.expanduser(checkpoint)):
            problems.append(
                f'{path}.checkpoint: no file {checkpoint!r} (looked from '
                f'{os.getcwd()}).'
            )
    return problems


def _short(node: Any) -> str:
    kind = node.get('type') if isinstance(node, dict) else None
    return str(getattr(kind, '__name__', kind)).rsplit('.', 1)[-1]


def check_sampler(path: str, node: Dict[str, Any]) -> List[str]:
    """A mixture that draws its samples needs seeds.

    Args:
        path (str): Key of a data loader.
        node (dict): Its config.

    Returns:
        List[str]: One line if ``epoch_length`` of ``mmdense.MixedDepth``
        meets another sampler than ``mmdense.SeededSampler``.
    """
    dataset = node.get('dataset')
    if (
        _short(dataset) != 'MixedDepth'
        or dataset.get('epoch_length') is None  # type: ignore[union-attr]
        or _short(node.get('sampler')) == 'SeededSampler'
    ):
        return []
    return [
        f'{path}.sampler: epoch_length of mmdense.MixedDepth draws samples by '
        "the seed of their index; use sampler=dict(type='mmdense."
        "SeededSampler', shuffle=True), or leave epoch_length out."
    ]


def _datasets(node: Any) -> Iterator[Dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        inner: Sequence[Any] = node.get('datasets') or ()
        for part in [node.get('dataset'), *inner]:
            yield from _datasets(part)


def be_strict(cfg: Any) -> None:
    """Let test sets of depth stop at a file that cannot be used.

    Validation in a training goes on without it, but the result of a test has
    to be one of all images. A ``strict`` of the config is kept.

    Args:
        cfg (Config): With ``test_dataloader``; changed in place.
    """
    loaders = cfg.get('test_dataloader') or ()
    scope = cfg.get('default_scope') or 'mmengine'
    for loader in [loaders] if isinstance(loaders, dict) else loaders:
        for node in _datasets(loader.get('dataset')):
            kind = node.get('type')
            if isinstance(kind, str):
                with root.DATASETS.switch_scope_and_registry(scope) as own:
                    kind = own.get(kind)
            if getattr(kind, 'strict_in_tests', False):
                node.setdefault('strict', True)
