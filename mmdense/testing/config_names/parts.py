"""Names of configs against the models that they build."""

import re
from typing import Any, Callable, Dict, List, Tuple

from ...registry import MODELS
from .grammar import ConfigName
from .heads import built, head_problems, plain

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
    'large': (192, (2, 2, 18, 2)),
}
# class, and what its config says
_RESNETS: Dict[str, Tuple[str, Dict[str, int]]] = {
    'resnet18': ('ResNet', dict(depth=18)),
    'resnet50': ('ResNet', dict(depth=50)),
    'resnet101': ('ResNet', dict(depth=101)),
    'resnext101-32x8d': (
        'ResNeXt',
        dict(depth=101, groups=32, width_per_group=8),
    ),
}
# start of a name -> what takes its place, and the class that it builds
_ALIASES = {
    'vit-hybrid-': ('vit-base-', 'HybridVisionTransformer'),
    'deit-base-distilled-': ('vit-base-', 'DistilledVisionTransformer'),
    'deit-base-': ('vit-base-', 'VisionTransformer'),
}
# switch in the name -> facts that it changes; the switches of SelfPatch
SWITCHES: Dict[str, Callable[[str], Dict[str, Any]]] = {
    r'n(\d+|all)': lambda n: {'window': int(n) if n.isdigit() else n},
    r'k(\d+)': lambda k: {'top_k': int(k)},
    r'(mean)': lambda target: {'patch_target': target},
    r'lambda([\d.]+)': lambda weight: {'loss_weight': float(weight)},
    r'(noneg)': lambda _: {'negatives': 'none'},
}


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


def _resnet_problems(name: str, backbone: Dict[str, Any]) -> List[str]:
    kind, wanted = _RESNETS[name]
    said = {'type': kind, **wanted}
    found = {key: backbone.get(key) for key in wanted}
    found['type'] = backbone['type'].rsplit('.', 1)[-1]
    return [] if found == said else [f'{name} should be {said}, is {found}']


def _backbone_problems(name: str, backbone: Dict[str, Any]) -> List[str]:
    if name in _RESNETS:
        return _resnet_problems(name, backbone)
    for start, (usual, kind) in _ALIASES.items():
        if name.startswith(start):
            if not backbone['type'].endswith(f'.{kind}'):
                return [f'{name} is a {backbone["type"]}, not a {kind}']
            name = name.replace(start, usual)
    family, _, rest = name.partition('-')
    arch, _, suffix = rest.partition('-')
    tables: Dict[str, Tuple[Dict[str, Any], Any, str, str, int]] = {
        'vit': (_VITS, _vit_facts, 'p', 'patch_size', 16),
        'swin': (_SWINS, _swin_facts, 'w', 'window_size', 7),
    }
    if family not in tables:
        return [f'{name}: teach this family to testing/config_names/']
    table, facts, letter, key, default = tables[family]
    wanted, found = table.get(arch), facts(backbone)
    # MoCo v3 has a ViT-S of its own, with twice the heads
    if wanted and str(backbone.get('arch')).startswith('mocov3'):
        wanted = (*wanted[:2], 2 * wanted[2])
    problems = []
    if wanted != found:
        problems.append(f'{name} should be {wanted}, is {found}')
    if suffix != f'{letter}{backbone.get(key, default)}':
        problems.append(f'{name} has {key}={backbone.get(key, default)}')
    return problems


def method_of(model: Dict[str, Any]) -> Dict[str, Any]:
    """Part of a model that has the backbone.

    Args:
        model (dict): Config of a model.

    Returns:
        dict: The method that an objective such as
        :class:`mmdense.SelfPatch` wraps, or the model itself.
    """
    return model.get('method', model)


def part_problems(name: ConfigName, model: Dict[str, Any]) -> List[str]:
    """Compare backbone, method or head with what is built.

    Args:
        name (ConfigName): Parts of the name.
        model (dict): Config of the model.

    Returns:
        List[str]: One line per difference.
    """
    problems = _backbone_problems(name.backbone, method_of(model)['backbone'])
    if name.kind == 'fine-tuning':
        return problems + head_problems(name.method, model)
    if 'method' in model:
        return problems + _wrapped_problems(name.method, model)
    found = built(model)
    if plain(name.method) != found:
        problems.append(f'{name.method} builds {found}')
    return problems


def _wrapped_problems(name: str, model: Dict[str, Any]) -> List[str]:
    """Compare ``selfpatch-{base}[-{switch}...]`` with what is built."""
    own, _, rest = name.partition('-')
    base, *switches = rest.split('-')
    problems = [
        f'{word} builds {built(part)}'
        for word, part in ((own, model), (base, model['method']))
        if word != built(part)
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
