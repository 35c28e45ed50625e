"""Prepare a config for training or testing and build its runner."""

import glob
import inspect
import os
import os.path as osp
import sys
import zipfile
from typing import Any, Optional, Tuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, OPTIM_WRAPPERS, RUNNERS, Registry
from mmengine.runner import Runner, find_latest_checkpoint

from ..engine.optimizers import OptimWrapper
from ..utils.checkpoint import TRUST_VARIABLE
from ..utils.errors import UserError, message_of
from ..utils.tta import TTA_KEYS, apply_tta
from .config_check import ConfigError, check_config

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Runner.register_default_hooks
_STOCK_HOOKS = (
    *('runtime_info', 'timer', 'sampler_seed', 'logger'),
    *('param_scheduler', 'checkpoint'),
)


def read_config(path: str) -> Config:
    """Read a config file.

    Args:
        path (str): Config file.

    Returns:
        Config: The config.

    Raises:
        ConfigError: If there is no such file; names near ones.
    """
    if not osp.isfile(path):
        import difflib

        folder = osp.dirname(path) or '.'
        names = os.listdir(folder) if osp.isdir(folder) else []
        near = difflib.get_close_matches(osp.basename(path), names, 3, 0.4)
        hint = f' Nearest there: {", ".join(near)}.' if near else ''
        raise ConfigError(f'No config file {path}.{hint}')
    return Config.fromfile(path)


def set_work_dir(cfg: Config, config_path: str, work_dir: str = '') -> None:
    """Choose the work dir: argument, config, then the config's name."""
    if work_dir:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir', None) is None:
        name = osp.splitext(osp.basename(config_path))[0]
        cfg.work_dir = osp.join('./work_dirs', name)


def set_loader_defaults(
    cfg: Config,
    pin_memory: bool = True,
    persistent_workers: bool = True,
) -> None:
    """Fill in what the toolboxes' own launchers fill in.

    mmpretrain expects ``default_collate`` unless a config says otherwise,
    the other toolboxes do not. Memory is pinned only where there is a GPU,
    and workers persist only where there are some.

    Args:
        cfg (Config): Changed in place.
        pin_memory (bool): Allow pinned memory. Defaults to True.
        persistent_workers (bool): Allow persistent workers. Defaults to
            True.
    """
    for name in _LOADERS:
        loader = cfg.get(name, None)
        if loader is None:
            continue
        if cfg.get('default_scope') == 'mmpretrain':
            loader.setdefault('collate_fn', ConfigDict(type='default_collate'))
        loader.setdefault('pin_memory', True)
        loader.setdefault('persistent_workers', True)
        if not pin_memory or not torch.cuda.is_available():
            loader.pin_memory = False
        if not persistent_workers or loader.get('num_workers', 0) == 0:
            loader.persistent_workers = False


def set_amp(cfg: Config) -> None:
    """Train in mixed precision, unless the config does already.

    Args:
        cfg (Config): Changed in place; a wrapper of mmdense stays one.

    Raises:
        ConfigError: If the optimiser wrapper is of another kind.
    """
    wrapper = cfg.optim_wrapper
    scope, _, kind = wrapper.get('type', 'OptimWrapper').rpartition('.')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ConfigError(
            f'--amp does not fit optim_wrapper.type={wrapper.type!r}: only '
            'OptimWrapper can be replaced by AmpOptimWrapper.'
        )
    wrapper.type = f'{scope}.AmpOptimWrapper' if scope else 'AmpOptimWrapper'
    wrapper.setdefault('loss_scale', 'dynamic')


def add_hook(cfg: Config, kind: str) -> None:
    """Add a custom hook unless the config has one of that type."""
    hooks = list(cfg.get('custom_hooks', None) or [])
    short = kind.rsplit('.', 1)[-1]
    if not any(h['type'].rsplit('.', 1)[-1] == short for h in hooks):
        hooks.append(ConfigDict(type=kind))
    cfg.custom_hooks = hooks


def _class_of(cfg: Config, key: str, registry: Registry) -> Any:
    """What the ``type`` of a config's part builds, None if unknown."""
    part = cfg.get(key, None)
    if not isinstance(part, dict):
        return type(part)
    kind = part.get('type', 'OptimWrapper')
    if not isinstance(kind, str):
        return kind
    scope = cfg.get('default_scope') or 'mmengine'
    with registry.switch_scope_and_registry(scope) as switched:
        return switched.get(kind)


def add_training_hooks(cfg: Config) -> None:
    """Add the hooks that a training run of mmdense should not go without.

    A hook that the config has keeps its settings.

    Args:
        cfg (Config): With ``model``, ``train_dataloader`` and
            ``optim_wrapper``; changed in place.
    """
    # a resumed run has to draw the random numbers of an uninterrupted one
    add_hook(cfg, 'mmdense.StepSeedHook')
    add_hook(cfg, 'mmdense.DataReportHook')
    add_hook(cfg, 'mmdense.ResumeCheckHook')
    # without it, the teacher would stand still
    if hasattr(_class_of(cfg, 'model', MODELS), 'after_step'):
        add_hook(cfg, 'mmdense.MomentumUpdateHook')
    wrapper = _class_of(cfg, 'optim_wrapper', OPTIM_WRAPPERS)
    if inspect.isclass(wrapper) and issubclass(wrapper, OptimWrapper):
        add_hook(cfg, 'mmdense.NonFiniteLossHook')


def add_testing_hooks(cfg: Config) -> None:
    """Add the hook that writes a row of results after a test.

    A hook of that type that the config has keeps its settings.

    Args:
        cfg (Config): Changed in place.
    """
    add_hook(cfg, 'mmdense.ResultRowHook')


def drop_hooks_of_none(cfg: Config) -> None:
    """Take hooks that are set to None out of ``default_hooks``.

    ``--cfg-options default_hooks.match_monitor=None`` leaves a hook out.
    mmengine takes None for the names that it knows itself alone.

    Args:
        cfg (Config): Changed in place.
    """
    hooks = cfg.get('default_hooks', None) or {}
    for name in [k for k, v in hooks.items() if v is None]:
        if name not in _STOCK_HOOKS:
            del hooks[name]


def trust_checkpoints(trust: bool) -> None:
    """Let this process load pickled objects, as ``--trust-checkpoint``."""
    if trust:
        os.environ[TRUST_VARIABLE] = '1'


def check_schedules(cfg: Config) -> None:
    """Refuse a training that ends before one of its schedules begins.

    Args:
        cfg (Config): With ``train_cfg`` and ``param_scheduler``.

    Raises:
        ConfigError: If a schedule without an end begins too late.
    """
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs')
    schedules = cfg.get('param_scheduler') or []
    for schedule in schedules if isinstance(schedules, list) else [schedules]:
        begin = schedule.get('begin', 0)
        by_epoch = schedule.get('by_epoch', True)
        if epochs and by_epoch and 'end' not in schedule and begin >= epochs:
            raise ConfigError(
                f'train_cfg.max_epochs={epochs}, but {schedule.type} in '
                f'param_scheduler begins at epoch {begin} (after the '
                'warm-up). Train for longer, or shorten the warm-up: '
                'param_scheduler.0.end and param_scheduler.1.begin.'
            )


def build_runner(cfg: Config, skip: Tuple[str, ...] = ()) -> Runner:
    """Check a config and build the runner that it asks for.

    Args:
        cfg (Config): A complete config.
        skip (Tuple[str, ...]): Top-level keys not to check.

    Returns:
        Runner: Ready to train or test.

    Raises:
        ConfigError: If the config cannot run.
    """
    drop_hooks_of_none(cfg)
    check_config(cfg, skip)
    check_schedules(cfg)
    if cfg.get('train_dataloader') is not None:
        add_training_hooks(cfg)
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


def latest_checkpoint(work_dir: str) -> Optional[str]:
    """Newest checkpoint of a work dir that is whole.

    A run that is killed while it writes leaves a broken file behind, or a
    note of one that is gone.

    Args:
        work_dir (str): Folder of the run.

    Returns:
        str or None: None if there is none, and the run starts anew.
    """
    note = osp.join(work_dir, 'last_checkpoint')
    noted = find_latest_checkpoint(work_dir) if osp.isfile(note) else None
    names = [noted] if noted else []
    names += sorted(
        glob.glob(osp.join(work_dir, 'epoch_*.pth'))
        + glob.glob(osp.join(work_dir, 'iter_*.pth')),
        key=osp.getmtime,
        reverse=True,
    )
    for path in names:
        # the directory of the archive is written last
        if '://' in path or zipfile.is_zipfile(path):
            return path
        print(f'warning: {path} is not whole and is passed over')
    return None


def check_loader(runner: Runner) -> None:
    """Build the training data and refuse an epoch without a batch.

    Args:
        runner (Runner): Before training.

    Raises:
        ConfigError: If the data set is smaller than a batch.
    """
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    loader = runner.train_dataloader
    try:
        batches = len(loader)
    except TypeError:
        return  # a sampler without end
    if batches == 0:
        raise ConfigError(
            f'The training data holds {len(loader.dataset)} samples, and a '
            f'batch takes {loader.batch_size} on each of '
            f'{runner.world_size} process(es) (drop_last=True). Lower '
            'train_dataloader.batch_size or add data.'
        )


def exit_on_user_error(function: Any) -> Any:
    """Run a command; mistakes of the user end it with a message alone."""

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            print(f'error: {message_of(error)}', file=sys.stderr)
            sys.exit(2)

    return run


def disable_validation(cfg: Config) -> None:
    """Train without validation (``--no-validate``)."""
    cfg.val_cfg = None
    cfg.val_dataloader = None
    cfg.val_evaluator = None


def set_resume(cfg: Config, checkpoint: str) -> None:
    """Make a training go on; one that has stored nothing yet just starts.

    What the training started from stays in the config as ``started_from``.

    Args:
        cfg (Config): With ``work_dir``; changed in place.
        checkpoint (str): File to go on from, or ``'auto'`` for the latest one
            of ``work_dir``.
    """
    found: Optional[str] = checkpoint
    if checkpoint == 'auto':
        found = latest_checkpoint(cfg.work_dir)
    if found is None:
        return
    cfg.started_from = cfg.get('load_from')
    cfg.resume, cfg.load_from = True, found


def use_tta(cfg: Config) -> None:
    """Test with the config's ``tta_model`` and ``tta_pipeline``.

    Raises:
        ConfigError: If the config has none.
    """
    for key in TTA_KEYS:
        if key not in cfg:
            raise ConfigError(
                f'--tta needs {key} in the config; configs with several '
                'scales or flips have both, see configs/dpt/benchmarks.'
            )
    apply_tta(cfg)


def set_visualization(
    cfg: Config,
    show_dir: Optional[str],
    show: bool = False,
    wait_time: float = 2,
    interval: int = 1,
) -> None:
    """Turn the visualisation hook of a config on.

    Raises:
        ConfigError: If ``default_hooks`` has no ``visualization``.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise ConfigError(
            '--show and --show-dir need default_hooks.visualization in the '
            "config, for instance dict(type='mmseg.SegVisualizationHook'), or "
            "dict(type='mmdense.DepthVisualizationHook') for depth."
        )
    name = hook['type'].rsplit('.', 1)[-1]
    hook['enable' if name == 'VisualizationHook' else 'draw'] = True
    hook['show'] = show
    hook['wait_time'] = wait_time
    hook['interval'] = interval
    if show_dir is not None:
        if name == 'VisualizationHook':
            hook['out_dir'] = show_dir
        elif name == 'DetVisualizationHook':
            hook['test_out_dir'] = show_dir
        else:
            cfg.visualizer['save_dir'] = show_dir
