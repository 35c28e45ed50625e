"""Find the mistakes of a config before anything is built.

A misspelt key, a component that is not registered, or a data root that does
not exist otherwise surfaces minutes later, from the middle of a toolbox.
"""

import difflib
import inspect
import os
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple, Type

from mmengine import registry as root
from mmengine.config import ConfigDict
from mmengine.hooks import CheckpointHook
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..registry import MissingToolboxError, toolbox_installed
from ..utils.errors import UserError
from .config_data import check_paths as paths_of
from .config_data import check_sampler, is_local, may_be_absent

# key of a dict -> registry that what is below it comes from
_CONTEXT = {
    'model': root.MODELS,
    'data_preprocessor': root.MODELS,
    'dataset': root.DATASETS,
    'datasets': root.DATASETS,
    'pipeline': root.TRANSFORMS,
    'transforms': root.TRANSFORMS,
    'collate_fn': root.FUNCTIONS,
    'worker_init_fn': root.FUNCTIONS,
    'val_evaluator': root.METRICS,
    'test_evaluator': root.METRICS,
    'optim_wrapper': root.OPTIM_WRAPPERS,
    'optimizer': root.OPTIMIZERS,
    'param_scheduler': root.PARAM_SCHEDULERS,
    'default_hooks': root.HOOKS,
    'custom_hooks': root.HOOKS,
    'visualizer': root.VISUALIZERS,
    'vis_backends': root.VISBACKENDS,
    'train_cfg': root.LOOPS,
    'val_cfg': root.LOOPS,
    'test_cfg': root.LOOPS,
    'log_processor': root.LOG_PROCESSORS,
    'init_cfg': root.WEIGHT_INITIALIZERS,
}
_LOADER_CONTEXT = {
    'sampler': root.DATA_SAMPLERS,
    'batch_sampler': root.DATA_SAMPLERS,
}
_ALL = (
    root.MODELS,
    root.DATASETS,
    root.TRANSFORMS,
    root.HOOKS,
    root.METRICS,
    root.TASK_UTILS,
    root.OPTIM_WRAPPERS,
    root.OPTIMIZERS,
    root.OPTIM_WRAPPER_CONSTRUCTORS,
    root.PARAM_SCHEDULERS,
    root.DATA_SAMPLERS,
    root.VISUALIZERS,
    root.VISBACKENDS,
    root.LOOPS,
    root.LOG_PROCESSORS,
    root.WEIGHT_INITIALIZERS,
    root.RUNNERS,
    root.MODEL_WRAPPERS,
    root.EVALUATOR,
)
_CHECKED_KEYWORDS = {
    r.name
    for r in (
        root.MODELS,
        root.DATASETS,
        root.TRANSFORMS,
        root.HOOKS,
        root.METRICS,
        root.OPTIMIZERS,
        root.OPTIM_WRAPPERS,
        root.PARAM_SCHEDULERS,
        root.DATA_SAMPLERS,
        root.LOOPS,
        root.WEIGHT_INITIALIZERS,
    )
}
# built by attribute look-up rather than through a registry
_NO_REGISTRY = {'roi_layer', 'nms', 'augments', 'clip_grad'}
# dicts whose entries belong to a library without a registry
_FOREIGN = {'Albu', 'Albumentations'}
# popped by whoever builds the dict
_POPPED = {
    *('type', '_scope_', '_delete_', 'priority', 'by_epoch'),
    *('constructor', 'paramwise_cfg', 'optimizer', 'convert_to_iter_based'),
    *('override', 'layer'),
}
_TOP_LEVEL_EXTRA = {
    *('model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'compile'),
    *('activation_checkpointing', 'custom_imports', 'runner_type'),
}
# dicts without a type whose keys are known
_CLOSED = {
    'randomness': set(inspect.signature(Runner.set_randomness).parameters),
    'auto_scale_lr': {'enable', 'base_batch_size'},
}
_PARAMWISE = {
    *('lr_mult', 'decay_mult', 'bias_lr_mult', 'bias_decay_mult'),
    *('norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult'),
    *('dcn_offset_lr_mult', 'bypass_duplicate', 'custom_keys'),
}
_LOADER = set(inspect.signature(DataLoader.__init__).parameters) | {
    *('dataset', 'num_batch_per_epoch', 'disable_subprocess_warning'),
}


class ConfigError(UserError, ValueError):
    """A config that cannot run; the message lists every mistake found."""


def _registry_of_scope(registry: Registry, scope: Optional[str]) -> Registry:
    if registry is root.FUNCTIONS:  # no toolbox has a child of it
        return registry
    with registry.switch_scope_and_registry(scope) as switched:
        return switched


def _lookup(
    name: str, context: Optional[Registry], scope: Optional[str]
) -> Tuple[Optional[Type], Optional[Registry]]:
    """Registered object and its root registry, (None, None) if absent."""
    order = ([context] if context is not None else []) + list(_ALL)
    for registry in order:
        if registry is None:
            continue
        found = _registry_of_scope(registry, scope).get(name)
        if found is not None:
            return found, registry
    return None, None


def _names(registry: Registry, scope: Optional[str]) -> Set[str]:
    switched: Optional[Registry] = _registry_of_scope(registry, scope)
    names: Set[str] = set()
    while switched is not None:
        switched.import_from_location()
        names |= set(switched.module_dict)
        switched = switched.parent
    return names


def keywords_of(cls: Any) -> Optional[Set[str]]:
    """Keyword arguments that a class takes, its bases included.

    Args:
        cls (type): Class whose ``__init__`` is looked at.

    Returns:
        Set[str] or None: None when the set is open (``**kwargs`` that no
        base explains, or no signature).
    """
    if not inspect.isclass(cls):
        return None
    names: Set[str] = set()
    for base in cls.__mro__[:-1]:
        if '__init__' not in vars(base):
            continue
        try:
            parameters = inspect.signature(base.__init__).parameters.values()
        except (TypeError, ValueError):
            return None
        names |= {p.name for p in parameters if p.name != 'self'}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names
    return None if names else set()


def _walk(
    node: Any,
    path: str,
    context: Optional[Registry],
    scope: Optional[str],
    key: str = '',
) -> Iterator[Tuple[str, dict, Optional[Registry], Optional[str], str]]:
    """Yield every dict with its path, registry, scope and key."""
    if isinstance(node, dict):
        scope = node.get('_scope_', scope)
        yield path, node, context, scope, key
        if str(node.get('type')).rsplit('.', 1)[-1] in _FOREIGN:
            return
        for name, value in node.items():
            below = _CONTEXT.get(name, context)
            if name in _LOADER_CONTEXT and context is None:
                below = _LOADER_CONTEXT[name]
            if name in ('train_cfg', 'test_cfg') and path:
                below = context  # of a model, not of the runner
            yield from _walk(value, f'{path}.{name}', below, scope, name)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _walk(value, f'{path}[{index}]', context, scope, key)


def _suggest(name: str, names: Set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.5)
    return f' Nearest: {", ".join(near)}.' if near else ''


def _check_component(
    path: str,
    node: Dict[str, Any],
    context: Optional[Registry],
    scope: Optional[str],
    key: str,
) -> List[str]:
    name = node.get('type')
    if not isinstance(name, str) or key in _NO_REGISTRY:
        return []
    try:
        found, registry = _lookup(name, context, scope)
    except MissingToolboxError as error:
        return [f'{path}.type: {error}']
    if found is None:
        own, _, short = name.rpartition('.')
        if own:
            if not toolbox_installed(own.split('.')[0]):
                extra = {'mmdet': 'det'}.get(own, 'seg')
                return [
                    f'{path}.type: {name!r} needs {own}, which is not '
                    f"installed. Run: pip install 'mmdense[{extra}]'"
                ]
        pool: Set[str] = set()
        for candidate in [context] if context is not None else _ALL:
            pool |= _names(candidate, own or scope)
        return [
            f'{path}.type: {name!r} is not registered'
            f'{f" in {own or scope}" if own or scope else ""}.'
            + _suggest(short, pool)
            + ' A component of another toolbox needs its prefix, '
            "as in 'mmseg.UPerHead'."
        ]
    # *_cfg dicts lose keys to the function that builds them
    loops = ('train_cfg', 'val_cfg', 'test_cfg')
    if key.endswith('_cfg') and key not in ('init_cfg', *loops):
        return []
    if registry is None or registry.name not in _CHECKED_KEYWORDS:
        return []
    accepted = keywords_of(found)
    if found is CheckpointHook:
        # hands the rest on to save_checkpoint, at the first save
        accepted = set(inspect.signature(found.__init__).parameters)
        accepted |= set(inspect.signature(Runner.save_checkpoint).parameters)
    if accepted is None:
        return []
    return [
        f'{path}.{keyword}: {name} takes no such argument.'
        + _suggest(keyword, accepted)
        for keyword in node
        if keyword not in accepted and keyword not in _POPPED
    ]


def _check_keys(path: str, node: Any, known: Set[str]) -> List[str]:
    """Keys of a dict that are not among the known ones."""
    if not isinstance(node, dict):
        return []
    return [
        f'{path}.{key}: there is no such key.{_suggest(key, known)}'
        for key in node
        if key not in known | _POPPED
    ]


def _check_untyped(cfg: ConfigDict, skip: Tuple[str, ...]) -> List[str]:
    """Dicts that no component is built from, where the keys are known."""
    problems = []
    for name, known in _CLOSED.items():
        problems += _check_keys(name, cfg.get(name), known - {'self'})
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if name not in skip:
            problems += _check_keys(name, cfg.get(name), _LOADER)
    wrapper = cfg.get('optim_wrapper') or {}
    ours = 'LayerDecayOptimWrapperConstructor'
    constructor = str(wrapper.get('constructor') or '').rsplit('.', 1)[-1]
    plain = (
        *('', 'DefaultOptimWrapperConstructor'),
        'GroupedOptimWrapperConstructor',
    )
    if constructor in (*plain, ours):
        known = (
            _PARAMWISE | {'layer_decay_rate'}
            if constructor == ours
            else (_PARAMWISE)
        )
        problems += _check_keys(
            'optim_wrapper.paramwise_cfg', wrapper.get('paramwise_cfg'), known
        )
    return problems


def _check_top_level(cfg: ConfigDict) -> List[str]:
    known = set(inspect.signature(Runner.__init__).parameters)
    known |= _TOP_LEVEL_EXTRA
    problems = []
    for name in cfg:
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
        if not near:
            continue
        # configs may hold names of their own; beside the right key only a
        # closer match is a misspelling
        alike = difflib.SequenceMatcher(None, name, near[0]).ratio()
        if near[0] not in cfg or alike >= 0.92:
            problems.append(
                f'{name}: unknown key of the config. Nearest: {near[0]}.'
            )
    return problems


def find_problems(
    cfg: ConfigDict, skip: Tuple[str, ...] = (), check_paths: bool = True
) -> List[str]:
    """List what is wrong with a config, without building it.

    Args:
        cfg (ConfigDict or Config): The config.
        skip (Tuple[str, ...]): Top-level keys that are not going to be used.
        check_paths (bool): Look for data roots and checkpoints on disk.
            Defaults to True.

    Returns:
        List[str]: One line per mistake, starting with the key's path.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    problems = _check_top_level(cfg)
    if 'optim_wrapper' not in skip:
        problems += _check_untyped(cfg, skip)
    used = set(inspect.signature(Runner.__init__).parameters) - {'self'}
    for name in cfg:
        if name in skip or name not in used or name in ('cfg', 'env_cfg'):
            continue
        context = _CONTEXT.get(name)
        spared: List[str] = []
        for path, node, registry, own_scope, key in _walk(
            cfg[name], name, context, scope, name
        ):
            problems += _check_component(path, node, registry, own_scope, key)
            problems += check_sampler(path, node)
            if not check_paths:
                continue
            may_lack = may_be_absent(path, node)
            if may_lack is not None:
                spared.append(may_lack)
            if not path.startswith(tuple(spared)):
                problems += paths_of(path, node)
    load_from = cfg.get('load_from')
    if check_paths and isinstance(load_from, str) and is_local(load_from):
        if not os.path.isfile(os.path.expanduser(load_from)):
            problems.append(f'load_from: no file {load_from!r}.')
    return problems


def check_config(cfg: ConfigDict, skip: Tuple[str, ...] = ()) -> None:
    """Raise if a config cannot run.

    Args:
        cfg (ConfigDict or Config): The config.
        skip (Tuple[str, ...]): Top-level keys that are not going to be used,
            for instance the test data of a training run.

    Raises:
        ConfigError: Naming every mistake, its key and the nearest valid
            names.
    """
    problems = find_problems(cfg, skip)
    if problems:
        lines = '\n  '.join(problems)
        raise ConfigError(
            f'{len(problems)} problem(s) in the config:\n  {lines}'
        )
