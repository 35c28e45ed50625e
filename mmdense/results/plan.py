"""Commands that produce a published row, from pre-training to test."""

import re
import shlex
from pathlib import Path
from typing import Any, List, NamedTuple, Optional

from mmengine.config import Config

from ..utils.errors import UserValueError
from .config_hash import initial_weights, whole_weights
from .cost import ASSUMPTION, SPREAD, training_cost
from .published import find_key, lines
from .quoted import quoted_reason
from .zoo import Start, Zoo, ZooConfig

_GPUS = re.compile(r'_(\d+)xb\d+')
# GPUs of a node, for recipes that take more than one
_NODE = 8
_WORK = 'work_dirs'
_EXPORT = 'tools/model_converters/export_backbone.py'
_CONVERT = 'tools/model_converters/convert_dpt.py'
_CHECKPOINTS = 'checkpoints'
# folder of the configs and tools in an installed package
_INSTALLED = '.mim'


class Step(NamedTuple):
    """One command.

    Attributes:
        title (str): What it does.
        command (str): To be run in the root of the repository, with an
            installed package in any folder; empty where there is none.
        hours (float, optional): Estimated hours of one GPU.
        notes (List[str]): What to know about it.
    """

    title: str
    command: str
    hours: Optional[float] = None
    notes: List[str] = []


class Plan(NamedTuple):
    """Commands for a line of a table.

    Attributes:
        title (str): Line and config.
        steps (List[Step]): In order.
        short (str): One command for all after the pre-training; empty
            where there is none.
        problem (str, optional): What is missing for it.
    """

    title: str
    steps: List[Step]
    short: str
    problem: Optional[str]


def gpus_of(name: str) -> int:
    """GPUs of a recipe, from the name of its config; 1 without."""
    match = _GPUS.search(name)
    return int(match[1]) if match else 1


def _work_dir(place: str) -> str:
    return f'{_WORK}/{Path(place).stem}'


def last_checkpoint(cfg: Any, place: str) -> str:
    """File that a complete training leaves."""
    loop = cfg['train_cfg']
    if loop.get('max_iters'):
        return f'{_work_dir(place)}/iter_{loop["max_iters"]}.pth'
    return f'{_work_dir(place)}/epoch_{loop["max_epochs"]}.pth'


def _path(zoo: Zoo, place: str) -> str:
    """A config or tool as a word of a command.

    From the root of a checkout on, absolute in an installed package.
    """
    if zoo.root.name != _INSTALLED:
        return place
    return shlex.quote((zoo.root / place).as_posix())


def _train(zoo: Zoo, place: str) -> str:
    gpus, config = gpus_of(place), _path(zoo, place)
    if gpus == 1:
        return f'python {_path(zoo, "tools/train.py")} {config}'
    script = _path(zoo, 'tools/dist_train.sh')
    if gpus <= _NODE:
        return f'bash {script} {config} {gpus}'
    return (
        f'NNODES={gpus // _NODE} NODE_RANK=$NODE_RANK '
        f'MASTER_ADDR=$MASTER_ADDR bash {script} {config} {_NODE}'
    )


def _test(zoo: Zoo, config: ZooConfig, checkpoint: str) -> str:
    gpus, path = gpus_of(config.place), _path(zoo, config.place)
    tta = ' --tta' if config.tta else ''
    if gpus == 1:
        tool = _path(zoo, 'tools/test.py')
        return f'python {tool} {path} {checkpoint}{tta}'
    script = _path(zoo, 'tools/dist_test.sh')
    return f'bash {script} {path} {checkpoint} {min(gpus, _NODE)}{tta}'


def _training_step(
    zoo: Zoo, title: str, cfg: Any, place: str, data: str
) -> Step:
    notes = []
    hours = None
    try:
        cost = training_cost(cfg, data)
        hours = cost.gpu_hours
        side = f'{cost.size[0]}x{cost.size[1]}'
        macs = f'{cost.forward / 1e9:.1f} G multiply-adds at {side}'
        images = (
            'unknown number of'
            if cost.images is None
            else (f'{cost.images / 1e6:.1f} M')
        )
        notes.append(
            f'counted: {macs}, {cost.flops / 1e12:.2f} TFLOP per training '
            f'image, {images} images'
        )
    except Exception as error:  # a plan is of use without its cost
        notes.append(f'cost not counted ({type(error).__name__}: {error})')
    if gpus_of(place) > _NODE:
        notes.append(f'on each of {gpus_of(place) // _NODE} nodes')
    return Step(title, _train(zoo, place), hours, notes)


def _data_of(zoo: Zoo, name: str) -> str:
    config = zoo.configs.get(name)
    if config is None:
        return ''
    return str((config.entry.get('Metadata') or {}).get('Training Data', ''))


def _own_start(zoo: Zoo, stem: str, target: str, whole: bool) -> List[Step]:
    path = zoo.files[stem]
    place = path.relative_to(zoo.root).as_posix()
    cfg = Config.fromfile(str(path))
    checkpoint = last_checkpoint(cfg, place)
    steps = []
    # a pre-training may have weights to start from itself
    if stem in zoo.configs and cfg.get('benchmark') is not None:
        steps += _start_steps(zoo, zoo.configs[stem])
    train = _training_step(zoo, 'Pre-train', cfg, place, _data_of(zoo, stem))
    steps.append(train)
    if not whole:
        export = f'python {_path(zoo, _EXPORT)} {checkpoint} {target}'
        steps.append(Step('Export the backbone', export))
    return steps


def _public_start(zoo: Zoo, key: str, target: str) -> List[Step]:
    entry = zoo.public_weights[key]
    url, page = entry.get('URL'), entry.get('Page')
    notes = [str(entry['Note'])] if entry.get('Note') else []
    if url:
        command = f'curl -L --create-dirs -o {target} {shlex.quote(url)}'
    else:
        command = ''
        notes.insert(
            0,
            f'no address of the file is known: get it from {page} and '
            f'put it at {target}',
        )
    return [Step('Fetch the public weights', command, None, notes)]


def _public_file(zoo: Zoo, key: str) -> str:
    return f'{_CHECKPOINTS}/{zoo.public_weights[key]["File"]}'


def _start_steps(zoo: Zoo, config: ZooConfig) -> List[Step]:
    """What makes or fetches the starting weights of a config."""
    start = zoo.start(config)
    if start.problem is not None:
        return []
    target = initial_weights(config.cfg)
    if start.config is not None:
        target = target or f'{_WORK}/exports/backbone.pth'
        whole = whole_weights(config.cfg) is not None
        return _own_start(zoo, start.config, target, whole)
    assert start.weights is not None
    target = target or _public_file(zoo, start.weights)
    return _public_start(zoo, start.weights, target)


def _evaluation_steps(zoo: Zoo, config: ZooConfig, start: Start) -> List[Step]:
    """A test of released weights: fetch, convert, test."""
    if start.weights is None or start.problem is not None:
        return []
    steps = _start_steps(zoo, config)
    checkpoint = f'{_work_dir(config.place)}/converted.pth'
    tool, file = _path(zoo, _CONVERT), _public_file(zoo, start.weights)
    convert = f'python {tool} {file} {checkpoint}'
    steps.append(Step('Convert the weights', convert))
    steps.append(Step('Test', _test(zoo, config, checkpoint)))
    return steps


def _short(zoo: Zoo, config: ZooConfig, start: Start) -> str:
    """The command of ``run.py`` for a config."""
    gpus = gpus_of(config.place)
    run = _path(zoo, 'tools/benchmarks/run.py')
    short = f'python {run} {_path(zoo, config.place)}'
    if gpus > 1:
        short += f' --launcher pytorch --gpus {min(gpus, _NODE)}'
    if start.weights is not None and start.problem is None:
        short += ' --download'
    return short


def make_plan(zoo: Zoo, config: ZooConfig, row: str = '') -> Plan:
    """Commands that measure a config.

    Args:
        zoo (Zoo): Of the config.
        config (ZooConfig): A fine-tuning config.
        row (str): Key of the published line. Defaults to ``''``.

    Returns:
        Plan: Pre-training or download, export, training and test.
    """
    start = zoo.start(config)
    cfg, place = config.cfg, config.place
    title = f'{row}: {config.name}' if row else config.name
    if config.is_evaluation:
        steps = _evaluation_steps(zoo, config, start)
        short = _short(zoo, config, start) if steps else ''
        return Plan(title, steps, short, start.problem)
    if start.config == config.name:
        target = f'{_WORK}/exports/backbone.pth'
        steps = _own_start(zoo, config.name, target, whole=False)
    else:
        steps = _start_steps(zoo, config)
        data = _data_of(zoo, config.name)
        title_of = 'Fine-tune' if config.is_fine_tuning else 'Pre-train'
        steps.append(_training_step(zoo, title_of, cfg, place, data))
    if cfg.get('test_dataloader') is not None:
        checkpoint = last_checkpoint(cfg, place)
        steps.append(Step('Test', _test(zoo, config, checkpoint)))
    short = _short(zoo, config, start)
    return Plan(title, steps, short, start.problem)


def plans(zoo: Zoo, text: str) -> List[Plan]:
    """Plans for a published line or a config.

    Args:
        zoo (Zoo): Configs.
        text (str): Key of a line, a part of one, or a config's name or path.

    Returns:
        List[Plan]: One for each config of the line.

    Raises:
        UserValueError: If there is no such line or config, or the line has
            no config.
    """
    if text.endswith('.py') or text in zoo.configs:
        return [make_plan(zoo, zoo.find(text))]
    key = find_key(text)
    configs = zoo.reproducing.get(key, [])
    if not configs:
        reason = quoted_reason(lines()[key][0])
        why = f' ({reason})' if reason else ''
        raise UserValueError(f'No config reproduces {key}{why}.')
    return [make_plan(zoo, config, key) for config in configs]


def _hours(hours: float) -> str:
    """``'0.5 to 2.0 GPU-hours'`` for one hour."""
    low, high = (
        f'{end:.1f}' if end < 10 else f'{end:,.0f}'
        for end in (factor * hours for factor in SPREAD)
    )
    return f'{low} to {high} GPU-hours'


def plan_text(plan: Plan) -> str:
    """A plan as text that a shell can run.

    Args:
        plan (Plan): The plan.

    Returns:
        str: Commands, all else in comments.
    """
    rows = [f'# {plan.title}']
    if plan.problem is not None:
        rows.append(f'# not possible yet: {plan.problem}')
    for number, step in enumerate(plan.steps, 1):
        title = f'# {number}. {step.title}'
        if step.hours is not None:
            title += f', {_hours(step.hours)} (estimated)'
        rows += ['', title]
        rows += [f'#    {note}' for note in step.notes]
        if step.command:
            rows.append(step.command)
    if len(plan.steps) > 2 and plan.short:
        rows += [
            '',
            '# or, in place of all that follows the pre-training or download:',
            f'# {plan.short}',
        ]
    total = sum(step.hours for step in plan.steps if step.hours is not None)
    if total:
        text = f'{_hours(total)} in all, counting on an {ASSUMPTION}'
        rows += ['', f'# Estimated: {text}.']
    return '\n'.join(rows) + '\n'
