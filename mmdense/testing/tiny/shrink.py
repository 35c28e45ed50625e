"""Configs made small."""

from copy import deepcopy
from typing import Any, Callable, Dict, List, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from torch import nn

from ...registry import MODELS
from ..config_names import method_of

SIZE = 64
WIDTH = 32
_NARROW = 16
# keys that hold numbers of channels
_CHANNEL_KEYS = (
    'in_channels',
    'out_channels',
    'hid_channels',
    'bottleneck_channels',
    'channels',
    'embed_dims',
    'embed_dim',
    'feat_channels',
    'inter_channels',
    'mid_channels',
    'conv_out_channels',
    'fc_out_channels',
    'reassemble_channels',
)
# keys that hold numbers of rows
_COUNT_KEYS = ('queue_size', 'chunk_size')
# keys that hold sides of images in pixels
_SIZE_KEYS = ('img_size', 'size', 'crop_size', 'stride', 'input_size')
# taps of a hybrid backbone before its first layer
_STEM = ('stem0', 'stem1')


def _arch(settings: ConfigDict, default: str) -> dict:
    arch = settings.get('arch', default)
    if isinstance(arch, dict):
        return dict(arch)
    backbone: Any = MODELS.get(settings['type'])
    return dict(backbone.arch_zoo[arch.lower()])


class _Sizes(NamedTuple):
    """Real numbers that parts share with their backbone -> tiny ones."""

    channels: Dict[int, int]
    heads: Dict[int, int]


def _shrink_vit(settings: ConfigDict) -> _Sizes:
    """Keep the taps and whether a layer comes after the last one."""
    arch = _arch(settings, 'base')
    count = arch['num_layers']
    given = settings.get('out_indices', -1)
    taps = [given] if isinstance(given, int) else list(given)
    layers = [
        tap + count if tap < 0 else tap for tap in taps if tap not in _STEM
    ]
    ranks = {layer: rank for rank, layer in enumerate(sorted(layers))}
    depth = len(layers) + (max(layers) < count - 1)
    # a single layer would make layer-wise learning rates trivial
    spare = max(0, 2 - depth)
    settings['arch'] = ConfigDict(
        embed_dims=WIDTH,
        num_layers=depth + spare,
        num_heads=2,
        feedforward_channels=WIDTH,
    )
    tiny: List[Any] = [tap for tap in taps if tap in _STEM]
    tiny += [ranks[layer] + spare for layer in layers]
    settings['out_indices'] = tiny[0] if isinstance(given, int) else tiny
    return _Sizes({arch['embed_dims']: WIDTH}, {arch['num_heads']: 2})


def _shrink_hybrid(settings: ConfigDict) -> _Sizes:
    """Keep the widths of the stem, which has no setting for them."""
    sizes = _shrink_vit(settings)
    settings['layers'] = (1, 1, 1)
    sizes.channels.update({256: 256, 512: 512})
    return sizes


def _shrink_swin(settings: ConfigDict) -> _Sizes:
    """Keep the number of stages; the second block of the first is shifted."""
    arch = _arch(settings, 'tiny')
    stages = len(arch['depths'])
    settings['arch'] = ConfigDict(
        embed_dims=_NARROW,
        depths=[2] + [1] * (stages - 1),
        num_heads=[2**i for i in range(stages)],
    )
    settings['window_size'] = 4
    width = arch['embed_dims']
    return _Sizes(
        {width * 2**i: _NARROW * 2**i for i in range(stages)},
        {heads: 2**i for i, heads in enumerate(arch['num_heads'])},
    )


def _shrink_resnet(settings: ConfigDict) -> _Sizes:
    """Keep the kind of block; a ResNet-101 becomes a ResNet-50."""
    bottleneck = settings['depth'] >= 50
    settings['depth'] = 50 if bottleneck else 18
    settings['base_channels'] = settings['stem_channels'] = _NARROW // 2
    width = 256 if bottleneck else 64
    tiny = 4 * _NARROW // 2 if bottleneck else _NARROW // 2
    return _Sizes({width * 2**i: tiny * 2**i for i in range(4)}, {})


def _shrink_resnext(settings: ConfigDict) -> _Sizes:
    """Keep the grouped convolutions, of two channels a group."""
    sizes = _shrink_resnet(settings)
    settings['groups'], settings['width_per_group'] = 4, 2
    return sizes


_BACKBONES: Dict[str, Callable[[ConfigDict], _Sizes]] = {
    'DistilledVisionTransformer': _shrink_vit,
    'HybridVisionTransformer': _shrink_hybrid,
    'ResNeXt': _shrink_resnext,
    'ResNet': _shrink_resnet,
    'SwinTransformer': _shrink_swin,
    'VisionTransformer': _shrink_vit,
}


def _channels(value: Any, widths: Dict[int, int]) -> Any:
    """Different numbers stay different, so that what misfits still does."""
    if isinstance(value, int):
        if value <= _NARROW:
            return value
        if value not in widths:
            widths[value] = _NARROW
            while list(widths.values()).count(widths[value]) > 1:
                widths[value] += 8  # heads and groups divide it
        return widths[value]
    if isinstance(value, (list, tuple)):
        return type(value)(_channels(v, widths) for v in value)
    return value


def _sides(value: Any, size: int) -> Any:
    if isinstance(value, int):
        return size
    if isinstance(value, (list, tuple)):
        return type(value)(size for _ in value)
    return value


def _takes_vectors(node: Dict[str, Any]) -> bool:
    return str(node.get('type')).endswith('NonLinearNeck')


def _synced(node: Dict[str, Any]) -> None:
    """SyncBN has no CPU kernel."""
    norm = node.get('norm_cfg')
    if norm and norm.get('type') == 'SyncBN':
        norm['type'] = 'BN1d' if _takes_vectors(node) else 'BN'


def _shrink(node: Any, sizes: _Sizes, size: int) -> None:
    if isinstance(node, (list, tuple)):
        for value in node:
            _shrink(value, sizes, size)
    if not isinstance(node, dict):
        return
    for key, value in list(node.items()):
        if key == 'backbone':
            if not value['type'].endswith(('ResNet', 'ResNeXt')):
                value['img_size'] = size
            _synced(value)
        elif key in _CHANNEL_KEYS:
            node[key] = _channels(value, sizes.channels)
        elif key in _COUNT_KEYS:
            node[key] = min(value, _NARROW)
        elif key == 'num_heads':
            node[key] = sizes.heads.get(value, value)
        elif key in _SIZE_KEYS:
            node[key] = _sides(value, size)
        elif key == 'norm_cfg':
            _synced(node)
        elif key == 'score_thr':
            node[key] = 0.0  # what is not trained is sure of nothing
        else:
            _shrink(value, sizes, size)


def tiny_config(cfg: Config, size: int = SIZE) -> Config:
    """Copy of a config whose model is small and starts from random weights.

    Equal numbers of channels stay equal and different ones different, so a
    part that does not fit its backbone or its neighbours does not fit the
    tiny ones either.

    Args:
        cfg (Config): A config with ``model.backbone``, or ``model.method``
            with a backbone.
        size (int): Side of the images in pixels. Defaults to 64.

    Returns:
        Config: The copy; data sets and schedules are those of ``cfg``.

    Raises:
        NotImplementedError: If the backbone's class is not known here.
    """
    cfg = deepcopy(cfg)
    backbone = method_of(cfg.model)['backbone']
    name = backbone['type'].rsplit('.', 1)[-1]
    if name not in _BACKBONES:
        raise NotImplementedError(
            f'mmdense.testing.tiny cannot shrink {name}: add it to _BACKBONES.'
        )
    sizes = _BACKBONES[name](backbone)
    backbone['init_cfg'] = None
    _shrink(cfg.model, sizes, size)
    head = cfg.model.get('decode_head') or {}
    if head.get('output') == 'inverse_affine' and head.get('scale') is None:
        # they belong to weights, of which there are none
        head.update(scale=1.0, shift=0.1)
    return cfg


def build_model(cfg: Config, seed: int = 0) -> nn.Module:
    """Build and initialise the model of a config.

    Args:
        cfg (Config): With ``model`` and ``default_scope``.
        seed (int): Seed of the weights. Defaults to 0.

    Returns:
        nn.Module: In training mode.
    """
    torch.manual_seed(seed)
    scope = cfg.get('default_scope', 'mmdense')
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model)
        if hasattr(model, 'init_weights'):
            model.init_weights()
    return model.train()
