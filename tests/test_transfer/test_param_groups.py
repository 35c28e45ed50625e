"""Optimiser group of every parameter of real models, made small.

The groups are worked out here from the names of the parameters and printed
as a table (``pytest -s``).
"""

import re
from functools import cache

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from mmdense.testing.launch import ROOT
from mmdense.testing.tiny import build_model, tiny_config

pytest.importorskip('mmseg')
pytest.importorskip('mmdet')

MODELS = {
    'mmseg-vit': (
        'local_global/benchmarks/upernet_vit-small-p16_'
        'local-global-300e-pre_8xb2-64e_ade20k-512x512'
    ),
    'mmseg-fpn-vit': (
        'selfpatch/benchmarks/semantic-fpn_vit-small-p16_'
        'dino-300e-pre_8xb4-40k_ade20k-512x512'
    ),
    'mmseg-swin': (
        'semcl/benchmarks/upernet_swin-tiny-w7_'
        'in22k-pre_8xb2-160k_ade20k-512x512'
    ),
    # with a class token
    'mmdet-vit': (
        'selfpatch/benchmarks/mask-rcnn_vit-small-p16_'
        'moby-300e-pre_8xb1-amp-12e_coco'
    ),
    'mmdet-swin': (
        'selfpatch/benchmarks/mask-rcnn_swin-tiny-w7_'
        'selfpatch-moby-200e-pre_8xb1-amp-12e_coco'
    ),
}
LR, DECAY, RATE = 1e-4, 0.05, 0.75
CUSTOM = ('pos_embed', 'cls_token', 'relative_position_bias_table')
KEYS = {name: dict(decay_mult=0.0) for name in CUSTOM}
LAYER_DECAY = dict(
    layer_decay_rate=RATE,
    norm_decay_mult=0.0,
    bias_decay_mult=0.0,
    custom_keys=KEYS,
)
PLAIN = dict(norm_decay_mult=0.0, custom_keys=KEYS)
every_model = pytest.mark.parametrize('name', list(MODELS))


@cache
def _read(name):
    return Config.fromfile(str(ROOT / 'configs' / f'{MODELS[name]}.py'))


@cache
def _model(name):
    return build_model(tiny_config(_read(name)))


def _wrapper(model, constructor, paramwise):
    cfg = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=LR, weight_decay=DECAY),
        paramwise_cfg=dict(paramwise),
    )
    if constructor:
        cfg['constructor'] = f'mmdense.{constructor}OptimWrapperConstructor'
    return build_optim_wrapper(model, cfg)


def _groups(model, wrapper):
    """Group of each parameter by name; every one exactly once."""
    names = {id(p): n for n, p in model.named_parameters()}
    found = {}
    for index, group in enumerate(wrapper.optimizer.param_groups):
        for parameter in group['params']:
            name = names[id(parameter)]
            assert name not in found, f'{name} is in two groups'
            found[name] = dict(group, index=index)
            del found[name]['params']
    assert set(found) == set(names.values())
    return found


def _depth(name, backbone):
    """Depth by name: 0 embeddings, i + 1 block i, then what comes after."""
    if 'Swin' in type(backbone).__name__:
        blocks = [len(stage.blocks) for stage in backbone.stages]
    else:
        blocks = [len(backbone.layers)]
    last = sum(blocks) + 1
    part = name.split('.')
    if part[0] != 'backbone' or re.fullmatch(r'(norm|ln)\d', part[1]):
        return last, last
    if part[1] in ('patch_embed', 'pos_embed', 'cls_token'):
        return 0, last
    if part[1] == 'layers':
        return int(part[2]) + 1, last
    assert part[1] == 'stages', name
    before = sum(blocks[: int(part[2])])
    if part[3] == 'blocks':
        return before + int(part[4]) + 1, last
    # merging goes with the block in front of it
    assert part[3] == 'downsample', name
    return before + blocks[int(part[2])], last


def _norms(model):
    kinds = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
    return {n for n, m in model.named_modules() if isinstance(m, kinds)}


def _decays(name, norms, paramwise):
    """Whether weight decay applies, by the rules of a recipe."""
    custom = paramwise.get('custom_keys', {})
    hits = [key for key in custom if key in name]
    if hits:
        # of all that are part of the name the longest one counts
        return custom[max(hits, key=len)].get('decay_mult', 1.0) != 0
    owner, _, own = name.rpartition('.')
    if owner in norms:
        return paramwise.get('norm_decay_mult', 1.0) != 0
    if own == 'bias':
        return paramwise.get('bias_decay_mult', 1.0) != 0
    return True


def _print_table(title, found, norms):
    rows = [f'\n{title}: {len(found)} parameters']
    for name, group in found.items():
        kind = 'norm' if name.rpartition('.')[0] in norms else ''
        rows.append(
            f'  group {group["index"]:>2}  '
            f'depth {group.get("layer_depth", "-"):>2}  '
            f'lr {group["lr"]:.3e}  decay {group["weight_decay"]:.3f}  '
            f'{kind:<4} {name}'
        )
    print('\n'.join(rows))


@every_model
def test_layer_decay__group_of_every_parameter(name):
    model = _model(name)
    wrapper = _wrapper(model, 'LayerDecay', LAYER_DECAY)
    found, norms = _groups(model, wrapper), _norms(model)
    _print_table(f'{name}, layer decay {RATE}', found, norms)
    depths = set()
    for parameter, group in found.items():
        depth, last = _depth(parameter, model.backbone)
        decays = _decays(parameter, norms, LAYER_DECAY)
        assert group['layer_depth'] == depth, parameter
        assert group['lr'] == pytest.approx(LR * RATE ** (last - depth))
        assert group['lr_scale'] == pytest.approx(RATE ** (last - depth))
        assert group['weight_decay'] == (DECAY if decays else 0), parameter
        depths.add(depth)
    # no depth is empty; two groups each at most
    assert depths == set(range(last + 1))
    assert len(wrapper.optimizer.param_groups) <= 2 * (last + 1)


@pytest.mark.parametrize('constructor', [None, 'Grouped'])
@every_model
def test_plain_recipe__group_of_every_parameter(name, constructor):
    model = _model(name)
    wrapper = _wrapper(model, constructor, PLAIN)
    found, norms = _groups(model, wrapper), _norms(model)
    if constructor:
        _print_table(f'{name}, plain recipe', found, norms)
        settings = len(wrapper.optimizer.param_groups)
        assert settings <= 4  # decay or none, by custom key or not
    for parameter, group in found.items():
        decays = _decays(parameter, norms, PLAIN)
        assert group['lr'] == LR, parameter
        assert group['weight_decay'] == (DECAY if decays else 0), parameter
    undecayed = [p for p in found if not _decays(p, norms, PLAIN)]
    special = [p for p in undecayed if p.rpartition('.')[0] not in norms]
    if 'swin' in name:
        tables = 'relative_position_bias_table'
        assert special and all(p.endswith(tables) for p in special)
    else:
        assert special == ['backbone.cls_token', 'backbone.pos_embed']


@every_model
def test_own_recipe__covers_every_parameter(name):
    """What the config itself asks for: rates and decays of its kinds."""
    cfg = _read(name)
    model = _model(name)
    with DefaultScope.overwrite_default_scope('mmdense'):
        settings = cfg.optim_wrapper.to_dict()
        # mixed precision needs a GPU
        settings = {
            k: v
            for k, v in settings.items()
            if k in ('optimizer', 'paramwise_cfg', 'constructor')
        }
        wrapper = build_optim_wrapper(
            model, dict(type='OptimWrapper', **settings)
        )
    found, norms = _groups(model, wrapper), _norms(model)
    lr = settings['optimizer']['lr']
    decay = settings['optimizer']['weight_decay']
    paramwise = settings['paramwise_cfg']
    rate = paramwise.get('layer_decay_rate', 1.0)
    for parameter, group in found.items():
        depth, last = _depth(parameter, model.backbone)
        wanted = _decays(parameter, norms, paramwise)
        assert group['lr'] == pytest.approx(lr * rate ** (last - depth))
        assert group['weight_decay'] == (decay if wanted else 0), parameter


def _shared():
    """Two heads with one convolution between them, as in some detectors."""
    model = nn.Module()
    model.backbone = _model('mmseg-vit').backbone
    model.first, model.second = nn.Sequential(), nn.Sequential()
    model.first.conv = model.second.conv = nn.Conv2d(8, 8, 1)
    return model


@pytest.mark.parametrize('constructor', [None, 'LayerDecay', 'Grouped'])
def test_shared_parameters__once_with_bypass_duplicate(constructor):
    paramwise = LAYER_DECAY if constructor == 'LayerDecay' else PLAIN
    wrapper = _wrapper(
        _shared(), constructor, dict(paramwise, bypass_duplicate=True)
    )
    params = [
        id(p) for g in wrapper.optimizer.param_groups for p in g['params']
    ]
    assert len(params) == len(set(params))
    assert len(params) == len(list(_shared().parameters()))


@pytest.mark.parametrize('constructor', ['LayerDecay', 'Grouped'])
def test_step__moves_by_the_rate_of_the_group(constructor):
    """Adam's first step has the size of the learning rate."""
    model = _shared().backbone
    paramwise = LAYER_DECAY if constructor == 'LayerDecay' else PLAIN
    wrapper = _wrapper(model, constructor, paramwise)
    rates = {
        id(p): (g['lr'], g['weight_decay'])
        for g in wrapper.optimizer.param_groups
        for p in g['params']
    }
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    wrapper.optimizer.step()
    for name, parameter in model.named_parameters():
        lr, decay = rates[id(parameter)]
        wanted = before[name] * (1 - lr * decay) - lr
        torch.testing.assert_close(parameter.detach(), wanted, msg=name)
        parameter.data.copy_(before[name])
        parameter.grad = None
