"""A hash of what a config says about training and testing.

It is the same on every machine: absolute paths, and files, are reduced to
their last part; data roots, work dirs, loading threads, logging and drawing
are left out. So are the starting weights of the backbone, the name of the
data root and the batch of a process, which a run row states by itself, the
seed, and hooks that the tools add.

Weights that a training loads elsewhere (``load_from``, ``init_cfg`` of the
model or a head) are in the hash of the training part alone: a test sets them
anew. Scale and shift of a depth head that is trained from relative depth
belong to its starting weights, each model has its own: they are left out.
"""

import ast
import hashlib
import inspect
import json
from pathlib import Path, PurePosixPath
from typing import Any, Dict, Mapping, Optional

from ..utils.data_settings import inner_datasets

TRAINING_KEYS = (
    *('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'),
    *('param_scheduler', 'custom_hooks', 'default_hooks'),
)
TEST_KEYS = ('test_dataloader', 'test_cfg', 'test_evaluator')
_LOADER_PARTS = {
    'train_dataloader': ('dataset', 'sampler', 'batch_sampler'),
    'test_dataloader': ('dataset',),
}
# of the machine or of the layout of files, at any depth
_DROPPED = {
    *('data_root', 'cache_file', 'outfile_prefix', 'backend_args'),
    *('work_dir', 'out_dir', 'metainfo_file'),
    # a total batch can be split in many ways; rows state it
    'accumulative_counts',
}
# change nothing that is measured
_DROPPED_HOOKS = {
    *('timer', 'logger', 'param_scheduler', 'checkpoint', 'sampler_seed'),
    *('runtime_info', 'visualization'),
}
# added without settings by tools/train.py and tools/test.py
_ADDED_HOOKS = {
    *('StepSeedHook', 'DataReportHook', 'ResumeCheckHook'),
    *('MomentumUpdateHook', 'NonFiniteLossHook', 'ResultRowHook'),
}


def _dropped(key: Any, value: Any, test: bool, parent: str) -> bool:
    if key == 'init_cfg':
        # a test drops them all, see forget_initial_weights
        loads = value is not None and 'checkpoint' in value
        return value is None or (loads and (test or parent == 'backbone'))
    return key in _DROPPED or str(key).startswith('_')


def _prefix(path: Any) -> Any:
    """A folder below the data root, whole unless it is absolute."""
    if not isinstance(path, str):
        return _plain(path)
    parts = PurePosixPath(path.replace('\\', '/'))
    return parts.name if parts.is_absolute() else str(parts)


def _plain(node: Any, test: bool = True, parent: str = '') -> Any:
    """JSON of a config's value, without what depends on the machine."""
    if isinstance(node, Mapping):
        if parent == 'data_prefix':
            return {str(k): _prefix(v) for k, v in node.items()}
        return {
            str(key): _plain(value, test, str(key))
            for key, value in node.items()
            if not _dropped(key, value, test, parent)
        }
    if isinstance(node, (list, tuple)):
        return [_plain(value, test, parent) for value in node]
    if inspect.isclass(node) or inspect.isfunction(node):
        return node.__name__
    if isinstance(node, str):
        path = node.replace('\\', '/')
        return PurePosixPath(path).name if '/' in path else node
    if node is None or isinstance(node, (bool, int, float)):
        return node
    return repr(node)


def _hooks(hooks: Any) -> list:
    """Custom hooks in their order, without those that the tools add."""
    kept = []
    for hook in hooks or []:
        short = str(hook.get('type')).rsplit('.', 1)[-1]
        if not (set(hook) == {'type'} and short in _ADDED_HOOKS):
            kept.append(_plain(hook))
    return kept


def whole_weights(cfg: Mapping[str, Any]) -> Optional[str]:
    """Weights that a training loads as a whole, not its own checkpoint.

    Args:
        cfg (Mapping[str, Any]): Config of a training.

    Returns:
        str or None: ``load_from``; of a run that goes on ``started_from``,
        where ``tools/train.py --resume`` keeps it.
    """
    return cfg.get('started_from' if cfg.get('resume') else 'load_from')


def _forget_affine(parts: Dict[str, Any]) -> None:
    head = (parts.get('model') or {}).get('decode_head')
    trains = (parts.get('train_cfg') or {}).get('max_epochs') != 0
    if isinstance(head, dict) and trains:
        if head.get('output') == 'inverse_affine':
            head.pop('scale', None)
            head.pop('shift', None)


def canonical(cfg: Mapping[str, Any], test: bool = True) -> Dict[str, Any]:
    """What of a config its hash is taken of.

    Args:
        cfg (Mapping[str, Any]): A resolved config.
        test (bool): With the parts that a test reads. Defaults to True.

    Returns:
        dict: JSON values.
    """
    result: Dict[str, Any] = {}
    for key in (*TRAINING_KEYS, *(TEST_KEYS if test else ())):
        value = cfg.get(key)
        if value is None:
            continue
        if key in _LOADER_PARTS:
            value = {k: value[k] for k in _LOADER_PARTS[key] if k in value}
        elif key == 'default_hooks':
            value = {
                k: v
                for k, v in value.items()
                if v is not None and k not in _DROPPED_HOOKS
            }
        if key == 'custom_hooks':
            value = _hooks(value)
        if value or not isinstance(value, (dict, list)):
            result[key] = _plain(value, test)
    _forget_affine(result)
    # absent is off
    loader = cfg.get('train_dataloader')
    if loader is not None and loader.get('drop_last'):
        result['drop_last'] = True
    if not test and whole_weights(cfg):
        result['load_from'] = _plain(whole_weights(cfg))
    return result


def config_hash(cfg: Mapping[str, Any], test: bool = True) -> str:
    """Hash of :func:`canonical`: 16 hexadecimal digits of its SHA-256.

    Args:
        cfg (Mapping[str, Any]): A resolved config.
        test (bool): With the parts that a test reads. Defaults to True.

    Returns:
        str: Equal for configs that train, and with ``test`` also measure,
        the same.
    """
    text = json.dumps(canonical(cfg, test), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _value(node: ast.expr) -> Any:
    """Value of a literal in which ``dict(a=1)`` is allowed too."""
    if isinstance(node, ast.Call):
        plain = isinstance(node.func, ast.Name) and node.func.id == 'dict'
        if not plain or len(node.args) > 1:
            raise ValueError(f'{ast.dump(node.func)} is called')
        found = dict(_value(node.args[0])) if node.args else {}
        for word in node.keywords:
            value = _value(word.value)
            found.update(value if word.arg is None else {word.arg: value})
        return found
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {
            _value(key): _value(value)
            for key, value in zip(node.keys, node.values)
            if key is not None
        }
    return ast.literal_eval(node)


def read_config_text(text: Optional[str]) -> Optional[Dict[str, Any]]:
    """Read the config that a checkpoint carries, running nothing of it.

    Args:
        text (str, optional): ``Config.pretty_text``, from the ``meta`` of a
            checkpoint: assignments of literals.

    Returns:
        dict or None: Its values, lists for tuples; None if it holds anything
        else than literals.
    """
    if not isinstance(text, str):
        return None
    found: Dict[str, Any] = {}
    try:
        for statement in ast.parse(text).body:
            if not isinstance(statement, ast.Assign):
                return None
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = _value(statement.value)
    except (SyntaxError, ValueError, TypeError, RecursionError):
        return None
    return found


def initial_weights(cfg: Mapping[str, Any]) -> Optional[str]:
    """Path of the weights that a training starts from.

    Args:
        cfg (Mapping[str, Any]): Config of a training, with ``model``.

    Returns:
        str or None: ``init_cfg.checkpoint`` of the backbone, wherever in the
        model it is; without it ``load_from``, of the whole model.
    """
    stack = [cfg.get('model')]
    while stack:
        node = stack.pop()
        if not isinstance(node, Mapping):
            continue
        backbone = node.get('backbone')
        if isinstance(backbone, Mapping):
            start = backbone.get('init_cfg')
            if isinstance(start, Mapping) and start.get('checkpoint'):
                return str(start['checkpoint'])
        stack += list(node.values())
    return whole_weights(cfg)


def config_place(filename: Optional[str]) -> Optional[str]:
    """Path of a config from its folder ``configs`` on.

    Args:
        filename (str, optional): Config file.

    Returns:
        str or None: With forward slashes; the name alone for a file outside
        of ``configs``.
    """
    if not filename:
        return None
    parts = Path(filename).resolve().parts
    if 'configs' not in parts:
        return parts[-1]
    last = len(parts) - 1 - parts[::-1].index('configs')
    return '/'.join(parts[last:])


def train_data(cfg: Mapping[str, Any]) -> Optional[str]:
    """Name of the folder that a config trains on.

    Args:
        cfg (Mapping[str, Any]): A config.

    Returns:
        str or None: Last part of ``data_root``; None without one.
    """
    loader = cfg.get('train_dataloader')
    if not isinstance(loader, Mapping) or 'dataset' not in loader:
        return None
    root = inner_datasets(loader['dataset'])[0].get('data_root')
    return PurePosixPath(str(root).replace('\\', '/')).name if root else None
