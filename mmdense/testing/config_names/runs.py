"""Names of configs against data, schedule and starting weights."""

import math
import re
from typing import Any, Dict, List, Optional, Tuple

from mmengine.config import Config

from ...results.config_hash import initial_weights
from ...utils.data_settings import inner_datasets, repeats
from .grammar import ConfigName, split_origin

# images of data sets whose schedules count iterations and are named in epochs
DATASET_SIZES = {
    'ade20k': 20210,
    # an epoch of DPT's relative training: 72,000 steps of 16 images
    'mix3': 1_152_000,
    'mix10': 1_152_000,
    'pascal-context': 4998,
}
# first word of the data of a fine-tuning config -> what its data set says
_DATASETS = {
    'ade20k': 'ADE20KDataset',
    'cityscapes': 'Cityscape',
    'coco': 'CocoDataset',
    'coco-stuff164k': 'COCOStuffDataset',
    'kitti': 'KITTIDepth',
    'nyu': 'NYUDepth data',
    'nyu-bts': 'NYUDepthH5',
    'nyu-fastdepth': 'NYUDepthH5',
    'nyu-mat': 'NYUDepthMat',
    'pascal-context': 'PascalContextDataset',
    'rooms': 'rooms',
    'voc0712': 'VOCDataset',
    'voc12aug': 'PascalVOCDataset',
}
_Size = Tuple[int, int]


def training_size(cfg: Config) -> Optional[_Size]:
    """Height and width that the training pipeline gives.

    Args:
        cfg (Config): With ``train_dataloader``.

    Returns:
        Tuple[int, int] or None: Of the largest view, or after the last
        transform that fixes a size; None if there is no such transform.
    """
    size: Optional[_Size] = None
    data = inner_datasets(cfg.train_dataloader.dataset)[0]
    for step in data.get('pipeline') or []:
        kind = step['type'].rsplit('.', 1)[-1]
        if kind == 'MultiViewCrops':
            views = [view.get('size', 224) for view in step['views']]
            pairs = [(v, v) if isinstance(v, int) else v for v in views]
            size = max((pair[0], pair[1]) for pair in pairs)
        elif kind == 'RandomCrop':
            size = (step['crop_size'][0], step['crop_size'][1])
        elif kind == 'Resize' and step.get('keep_ratio'):
            size = None
        elif kind == 'CenterCrop' or (kind == 'Resize' and 'scale' in step):
            width, height = step.get('scale') or step['crop_size']
            size = (height, width)
    return size


def _fitted_size(cfg: Config) -> Optional[_Size]:
    """What images of the expected shape get from a resize to fit."""
    data = inner_datasets(cfg.train_dataloader.dataset)[0]
    for step in data.get('pipeline') or []:
        if step['type'].endswith('Resize') and step.get('keep_ratio'):
            if 'scale' in step:
                return step['scale'][1], step['scale'][0]
    return training_size(cfg)


def length_of(cfg: Config, name: ConfigName) -> float:
    """Length of the training in the unit of the name.

    Args:
        cfg (Config): With ``train_cfg``.
        name (ConfigName): Of the same config.

    Returns:
        float: Iterations, or passes over the data; iterations are converted
        with :data:`DATASET_SIZES`, repeated data counts as often as it is
        repeated.
    """
    loop = cfg.train_cfg
    if name.unit == 'iterations':
        return float(loop.get('max_iters', 0))
    if 'max_epochs' in loop:
        times = repeats(cfg.train_dataloader.dataset)
        return float(loop.max_epochs * times)
    images = DATASET_SIZES.get(name.data, math.nan)
    return loop.max_iters * name.gpus * name.batch / images


def _schedule_problems(cfg: Config, name: ConfigName) -> List[str]:
    loop = cfg.train_cfg
    by_epoch = 'max_epochs' in loop
    total = loop.max_epochs if by_epoch else loop.max_iters
    problems = []
    found = length_of(cfg, name)
    if not abs(found - name.length) <= 0.005 * name.length:
        problems.append(f'trains for {found:g} {name.unit}')
    schedulers = cfg.get('param_scheduler') or []
    # the runner lets schedules without an end go on to the last iteration
    ends = [
        s.get('end', total)
        for s in schedulers
        if s.get('by_epoch', True) == by_epoch
    ]
    if ends and total and max(ends) != total:
        problems.append(f'schedule ends at {max(ends)} of {total}')
    kinds = [s['type'] for s in schedulers]
    if name.schedule == 'coslr' and 'CosineAnnealingLR' not in kinds:
        problems.append(f'coslr schedules with {kinds}')
    return problems


def _data_problems(cfg: Config, name: ConfigName) -> List[str]:
    problems = []
    size = training_size(cfg)
    if name.size not in (size, _fitted_size(cfg)):
        problems.append(f'trains on {size}, not {name.size}')
    mixed = re.fullmatch(r'mix(\d+)', name.data)
    if mixed:
        data = cfg.train_dataloader.dataset
        count = len(data.get('datasets', ()))
        if not data['type'].endswith('.MixedDepth') or count != int(mixed[1]):
            problems.append(f'{name.data} reads {count} of {data["type"]}')
    elif name.kind == 'fine-tuning':
        word = _DATASETS.get(name.data)
        if word is None:
            problems.append(
                f'{name.data}: teach this data to testing/config_names/'
            )
        for data in inner_datasets(cfg.train_dataloader.dataset):
            where = f'{data["type"]} {data.get("data_root")}'
            if word and word not in where:
                problems.append(f'{name.data} reads {where}')
    return problems


def run_problems(name: ConfigName, cfg: Config) -> List[str]:
    """Compare batch, length, precision and data with the config.

    Args:
        name (ConfigName): Parts of the name.
        cfg (Config): What it says, bases included.

    Returns:
        List[str]: One line per difference.
    """
    problems = _schedule_problems(cfg, name)
    if cfg.train_dataloader.batch_size != name.batch:
        problems.append(f'batch is {cfg.train_dataloader.batch_size}')
    base = cfg.get('auto_scale_lr', {}).get('base_batch_size')
    if base != name.gpus * name.batch:
        problems.append(f'auto_scale_lr.base_batch_size is {base}')
    amp = cfg.optim_wrapper.type.rsplit('.', 1)[-1] == 'AmpOptimWrapper'
    if amp != name.amp:
        problems.append(f'optim_wrapper is {cfg.optim_wrapper.type}')
    return problems + _data_problems(cfg, name)


def start_problems(name: ConfigName, cfg: Config) -> List[str]:
    """Compare the origin with ``benchmark`` and the checkpoint.

    Args:
        name (ConfigName): Parts of the name of a fine-tuning config.
        cfg (Config): With ``benchmark.pretraining``.

    Returns:
        List[str]: One line per difference.
    """
    benchmark = cfg.get('benchmark') or {}
    lacking = {'protocol', 'dataset', 'split', 'pretraining'} - set(benchmark)
    if lacking:
        return [f'benchmark lacks {sorted(lacking)}']
    start = benchmark['pretraining']
    assert name.origin is not None
    if name.origin == 'scratch':
        return _scratch_problems(cfg, start)
    if ('config' in start) == ('weights' in start):
        return [f'{start} needs either config or weights']
    problems = (
        _own_problems(name, cfg, start['config'])
        if 'config' in start
        else _public_problems(name, cfg, start['weights'])
    )
    _, length = split_origin(name.origin)
    epochs = length[:-1] if length and length.endswith('e') else None
    if epochs and str(start.get('epochs')) != epochs:
        problems.append(f'{name.origin} with {start.get("epochs")} epochs')
    return problems


def _scratch_problems(cfg: Config, start: Dict[str, Any]) -> List[str]:
    """Training from random weights."""
    checkpoint = initial_weights(cfg)
    said = start.get('method')
    problems = [] if said == 'none' else [f'scratch comes from {said}']
    return problems + ([f'starts from {checkpoint}'] if checkpoint else [])


def _own_problems(name: ConfigName, cfg: Config, said: str) -> List[str]:
    """Start from what a config of ours trains: a backbone, or all of it."""
    assert name.origin is not None
    word, length = split_origin(name.origin)
    checkpoint = initial_weights(cfg)
    wanted = f'work_dirs/exports/{word}_{name.backbone}.pth'
    stem, data = word, ''
    if cfg.get('load_from'):
        # {head}-{data}-{length}, such as dpt-mix10-60e
        wanted = f'work_dirs/{said}/'
        stem, _, data = word.partition('-')
    problems = []
    # demos start from whatever the command line names
    demo = name.data == 'rooms' and checkpoint is None
    if not demo and not str(checkpoint).startswith(wanted):
        problems.append(f'starts from {checkpoint}, not {wanted}')
    if not said.startswith(f'{stem}_{name.backbone}_'):
        problems.append(f'{name.origin} comes from {said}')
    if length and f'-{length}_{data}' not in said:
        problems.append(f'{name.origin} comes from {said}')
    return problems


def _public_problems(name: ConfigName, cfg: Config, said: str) -> List[str]:
    """Start from a file of somebody else."""
    wanted = f'{name.origin}_{name.backbone}'
    checkpoint = initial_weights(cfg)
    problems = []
    if said != wanted:
        problems.append(f'weights are {said}, not {wanted}')
    # what is only evaluated is named on the command line
    if name.length and not str(checkpoint).startswith('checkpoints/'):
        problems.append(f'starts from {checkpoint}, not checkpoints/')
    return problems
