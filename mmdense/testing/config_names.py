"""What the name of a config says, and what the config says.

Names of pre-training configs are
``{method}[-{base}[-{switch}]]_{backbone}_{G}xb{B}[-amp]-{sched}-{N}e_{data}
[-{px}px]`` in one word, those of fine-tuning configs
``{head}_{backbone}_{origin}-pre_{G}xb{B}[-amp]-{N}e_{data}-{H}x{W}``, with
G processes of B images, N epochs and sides in pixels. What the switches of a
method say is in :data:`SWITCHES`.
"""

import ast
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from mmengine.config import Config

from ..registry import MODELS

_WORD = r'[a-z0-9]+(?:-[a-z0-9]+)*'
_GRAMMARS = {
    'pre-training': (
        rf'(?P<method>{_WORD})_(?P<backbone>{_WORD})_'
        r'(?P<gpus>\d+)xb(?P<batch>\d+)(?P<amp>-amp)?-(?P<schedule>[a-z]+)-'
        rf'(?P<epochs>\d+)e_(?P<data>{_WORD}?)(?:-(?P<height>\d+)px)?'
    ),
    'fine-tuning': (
        rf'(?P<method>{_WORD})_(?P<backbone>{_WORD})_(?P<origin>{_WORD})-pre_'
        r'(?P<gpus>\d+)xb(?P<batch>\d+)(?P<amp>-amp)?-(?P<epochs>\d+)e_'
        rf'(?P<data>{_WORD})-(?P<height>\d+)x(?P<width>\d+)'
    ),
}
# images of data sets whose schedules count iterations
DATASET_SIZES = {'ade20k': 20210}
# width, layers, heads
_VITS = {
    'demo': (192, 6, 3),
    'tiny': (192, 12, 3),
    'small': (384, 12, 6),
    'base': (768, 12, 12),
    'large': (1024, 24, 16),
}
# width, blocks of each stage
_SWINS = {
    'demo': (48, (2, 2, 2, 2)),
    'tiny': (96, (2, 2, 6, 2)),
    'small': (96, (2, 2, 18, 2)),
    'base': (128, (2, 2, 18, 2)),
}
_HEADS = {'linear': 'fcn', 'upernet': 'uper'}
# switch in the name -> facts that it changes; the switches of SelfPatch
SWITCHES: Dict[str, Callable[[str], Dict[str, Any]]] = {
    r'n(\d+|all)': lambda n: {'window': int(n) if n.isdigit() else n},
    r'k(\d+)': lambda k: {'top_k': int(k)},
    r'(mean)': lambda target: {'patch_target': target},
    r'lambda([\d.]+)': lambda weight: {'loss_weight': float(weight)},
    r'(noneg)': lambda _: {'negatives': 'none'},
}


class ConfigName(NamedTuple):
    """Parts of the name of a config.

    Attributes:
        kind (str): ``'pre-training'`` or ``'fine-tuning'``.
        method (str): Method, or head of a fine-tuning config.
        backbone (str): Such as ``'vit-small-p16'`` or ``'swin-tiny-w7'``.
        origin (str, optional): Method that a fine-tuning config starts from,
            with epochs if stated.
        gpus (int): Number of processes.
        batch (int): Images per process.
        amp (bool): Mixed precision.
        schedule (str, optional): Learning rate, such as ``'coslr'``.
        epochs (int): Passes over the data.
        data (str): Data set and variant.
        size (Tuple[int, int]): Training height and width in pixels.
    """

    kind: str
    method: str
    backbone: str
    origin: Optional[str]
    gpus: int
    batch: int
    amp: bool
    schedule: Optional[str]
    epochs: int
    data: str
    size: Tuple[int, int]


def parse_name(path: Path) -> ConfigName:
    """Take the name of a config apart.

    Args:
        path (Path): Config; those in ``benchmarks`` are fine-tuning ones.

    Returns:
        ConfigName: Its parts.

    Raises:
        ValueError: If the name does not follow the grammar.
    """
    kind = 'fine-tuning'
    if path.parent.name != 'benchmarks' and '-pre_' not in path.stem:
        kind = 'pre-training'
    match = re.fullmatch(_GRAMMARS[kind], path.stem)
    if match is None:
        raise ValueError(
            f'{path.name} is no name of a {kind} config, see '
            'mmdense/testing/config_names.py.'
        )
    part = match.groupdict()
    side = part['height'] or 224
    return ConfigName(
        kind=kind,
        method=part['method'],
        backbone=part['backbone'],
        origin=part.get('origin'),
        gpus=int(part['gpus']),
        batch=int(part['batch']),
        amp=part['amp'] is not None,
        schedule=part.get('schedule'),
        epochs=int(part['epochs']),
        data=part['data'],
        size=(int(side), int(part.get('width') or side)),
    )


def levels(path: Path) -> int:
    """Levels of inheritance of a config, itself included.

    A file of ``_base_`` or of another package counts as one, whatever it
    inherits from.

    Args:
        path (Path): Config file.

    Returns:
        int: 1 for a config without ``_base_``.
    """
    bases: List[str] = []
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and any(
            getattr(target, 'id', '') == '_base_' for target in node.targets
        ):
            value = ast.literal_eval(node.value)
            bases = [value] if isinstance(value, str) else list(value)
    depths = [
        1 if '::' in base or '_base_' in base else levels(path.parent / base)
        for base in bases
    ]
    return 1 + max(depths, default=0)


def _vit_facts(backbone: Dict[str, Any]) -> Tuple[Any, ...]:
    arch = backbone.get('arch', 'base')
    if isinstance(arch, str):
        cls: Any = MODELS.get(backbone['type'])
        arch = cls.arch_zoo[arch.lower()]
    return arch['embed_dims'], arch['num_layers'], arch['num_heads']


def _swin_facts(backbone: Dict[str, Any]) -> Tuple[Any, ...]:
    arch = backbone.get('arch', 'tiny')
    if isinstance(arch, str):
        cls: Any = MODELS.get(backbone['type'])
        arch = cls.arch_zoo[arch.lower()]
    return arch['embed_dims'], tuple(arch['depths'])


def _backbone_problems(name: str, backbone: Dict[str, Any]) -> List[str]:
    family, _, rest = name.partition('-')
    arch, _, suffix = rest.partition('-')
    tables: Dict[str, Tuple[Dict[str, Any], Any, str, str, int]] = {
        'vit': (_VITS, _vit_facts, 'p', 'patch_size', 16),
        'swin': (_SWINS, _swin_facts, 'w', 'window_size', 7),
    }
    if family not in tables:
        known = {'resnet50': 50, 'resnet18': 18}
        if family in known and not rest:
            same = backbone.get('depth') == known[family]
            return [] if same else [f'{name} has depth {backbone["depth"]}']
        return [f'{name}: teach this family to testing/config_names.py']
    table, facts, letter, key, default = tables[family]
    found = facts(backbone)
    problems = []
    if table.get(arch) != found:
        problems.append(f'{name} should be {table.get(arch)}, is {found}')
    if suffix != f'{letter}{backbone.get(key, default)}':
        problems.append(f'{name} has {key}={backbone.get(key, default)}')
    return problems


def _plain(text: str) -> str:
    return re.sub('[^a-z0-9]', '', text.lower())


def _built(part: Dict[str, Any]) -> str:
    return _plain(part.get('type', '').rsplit('.', 1)[-1])


def method_of(model: Dict[str, Any]) -> Dict[str, Any]:
    """Part of a model that has the backbone.

    Args:
        model (dict): Config of a model.

    Returns:
        dict: The method that an objective such as
        :class:`mmdense.SelfPatch` wraps, or the model itself.
    """
    return model.get('method', model)


def _part_problems(name: ConfigName, model: Dict[str, Any]) -> List[str]:
    """Compare method or head with the class that is built."""
    if name.kind == 'pre-training':
        built = _built(model)
        if 'method' in model:
            return _wrapped_problems(name.method, model)
        fits = _plain(name.method) == built
    else:
        head = model.get('decode_head') or model.get('roi_head') or {}
        built = _built(head)
        fits = built.startswith(_HEADS.get(name.method, _plain(name.method)))
    return [] if fits else [f'{name.method} builds {built}']


def _wrapped_problems(name: str, model: Dict[str, Any]) -> List[str]:
    """Compare ``selfpatch-{base}[-{switch}...]`` with what is built."""
    own, _, rest = name.partition('-')
    base, *switches = rest.split('-')
    problems = [
        f'{word} builds {_built(part)}'
        for word, part in ((own, model), (base, model['method']))
        if word != _built(part)
    ]
    # the paper's choices, which a name does not mention
    said: Dict[str, Any] = {
        'window': 3,
        'top_k': 4,
        'patch_target': 'attention',
        'loss_weight': 0.1,
    }
    found = {
        **said,
        **{k: v for k, v in model.get('matching', {}).items() if k in said},
        **{k: v for k, v in model.items() if k in said},
    }
    if base == 'moby':
        said['negatives'] = 'queue'
        found['negatives'] = model['patch_loss'].get('negatives', 'queue')
    for switch in switches:
        matches = [
            (facts, match[1])
            for pattern, facts in SWITCHES.items()
            if (match := re.fullmatch(pattern, switch))
        ]
        if not matches:
            problems.append(f'{switch} is no switch of SelfPatch')
        for facts, value in matches:
            said.update(facts(value))
    return problems + [
        f'{key} is {found.get(key)!r}, the name says {value!r}'
        for key, value in said.items()
        if found.get(key) != value
    ]


def _origin_problems(name: ConfigName, backbone: Dict[str, Any]) -> List[str]:
    checkpoint = (backbone.get('init_cfg') or {}).get('checkpoint')
    if name.origin is None or checkpoint is None:
        return []
    origin = re.sub(r'-\d+e$', '', name.origin)
    words = [origin, name.backbone.split('-')[1]]
    file = _plain(str(checkpoint).rsplit('/', 1)[-1])
    return [
        f'{word} is not in the name of {checkpoint}'
        for word in words
        if _plain(word) not in file
    ]


def training_size(cfg: Config) -> Optional[Tuple[int, int]]:
    """Height and width that the training pipeline gives.

    Args:
        cfg (Config): With ``train_dataloader``.

    Returns:
        Tuple[int, int] or None: Of the largest view, or after the last
        transform that fixes a size; None if there is no such transform.
    """
    size: Optional[Tuple[int, int]] = None
    for step in cfg.train_dataloader.dataset.get('pipeline') or []:
        kind = step['type'].rsplit('.', 1)[-1]
        if kind == 'MultiViewCrops':
            views = [view.get('size', 224) for view in step['views']]
            pairs = [(v, v) if isinstance(v, int) else v for v in views]
            size = max((pair[0], pair[1]) for pair in pairs)
        elif kind == 'RandomCrop':
            size = (step['crop_size'][0], step['crop_size'][1])
        elif kind == 'CenterCrop' or (kind == 'Resize' and 'scale' in step):
            width, height = step.get('scale') or step['crop_size']
            size = (height, width)
    return size


def epochs_of(cfg: Config, name: ConfigName) -> float:
    """Passes over the training data.

    Args:
        cfg (Config): With ``train_cfg``.
        name (ConfigName): Of the same config.

    Returns:
        float: Epochs; iterations are converted with :data:`DATASET_SIZES`.
    """
    loop = cfg.train_cfg
    if 'max_epochs' in loop:
        return float(loop.max_epochs)
    images = DATASET_SIZES[name.data]
    return loop.max_iters * name.gpus * name.batch / images


def _schedule_problems(cfg: Config, name: ConfigName) -> List[str]:
    loop = cfg.train_cfg
    by_epoch = 'max_epochs' in loop
    total = loop.max_epochs if by_epoch else loop.max_iters
    problems = []
    if abs(epochs_of(cfg, name) / name.epochs - 1) > 0.005:
        problems.append(f'trains for {epochs_of(cfg, name):g} epochs')
    schedulers = cfg.get('param_scheduler') or []
    # the runner lets schedules without an end go on to the last iteration
    ends = [
        s.get('end', total)
        for s in schedulers
        if s.get('by_epoch', True) == by_epoch
    ]
    if ends and max(ends) != total:
        problems.append(f'schedule ends at {max(ends)} of {total}')
    kinds = [s['type'] for s in schedulers]
    if name.schedule == 'coslr' and 'CosineAnnealingLR' not in kinds:
        problems.append(f'coslr schedules with {kinds}')
    return problems


def name_problems(path: Path, cfg: Config) -> List[str]:
    """Where the name of a config and the config differ.

    Args:
        path (Path): Config file.
        cfg (Config): What it says, bases included.

    Returns:
        List[str]: One line per difference.

    Raises:
        ValueError: If the name does not follow the grammar.
    """
    name = parse_name(path)
    model = cfg.model
    backbone = method_of(model)['backbone']
    problems = _backbone_problems(name.backbone, backbone)
    problems += _part_problems(name, model)
    problems += _origin_problems(name, backbone)
    problems += _schedule_problems(cfg, name)
    if cfg.train_dataloader.batch_size != name.batch:
        problems.append(f'batch is {cfg.train_dataloader.batch_size}')
    base = cfg.get('auto_scale_lr', {}).get('base_batch_size')
    if base != name.gpus * name.batch:
        problems.append(f'auto_scale_lr.base_batch_size is {base}')
    amp = cfg.optim_wrapper.type.rsplit('.', 1)[-1] == 'AmpOptimWrapper'
    if amp != name.amp:
        problems.append(f'optim_wrapper is {cfg.optim_wrapper.type}')
    size = training_size(cfg)
    if size != name.size:
        problems.append(f'trains on {size}, not {name.size}')
    return problems
