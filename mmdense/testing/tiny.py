"""Configs made small, and data that fits them, for tests.

Everything goes by component, never by config name: a config of a known
backbone needs nothing here to be tested.
"""

from contextlib import contextmanager
from copy import deepcopy
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Sequence,
    Tuple,
)

import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..registry import MODELS
from .config_names import method_of

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
)
# keys that hold numbers of rows
_COUNT_KEYS = ('queue_size', 'chunk_size')
# keys that hold sides of images in pixels
_SIZE_KEYS = ('img_size', 'size', 'crop_size', 'stride', 'input_size')


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
    layers = [tap + count if tap < 0 else tap for tap in taps]
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
    tiny = [ranks[layer] + spare for layer in layers]
    settings['out_indices'] = tiny[0] if isinstance(given, int) else tiny
    return _Sizes({arch['embed_dims']: WIDTH}, {arch['num_heads']: 2})


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


_BACKBONES: Dict[str, Callable[[ConfigDict], _Sizes]] = {
    'VisionTransformer': _shrink_vit,
    'SwinTransformer': _shrink_swin,
}


def _channels(value: Any, widths: Dict[int, int]) -> Any:
    """Different numbers stay different, so that what misfits still does."""
    if isinstance(value, int):
        if value <= _NARROW:
            return value
        if value not in widths:
            widths[value] = _NARROW
            while list(widths.values()).count(widths[value]) > 1:
                widths[value] += 2
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


def _shrink(node: Any, sizes: _Sizes, size: int) -> None:
    if isinstance(node, (list, tuple)):
        for value in node:
            _shrink(value, sizes, size)
    if not isinstance(node, dict):
        return
    for key, value in list(node.items()):
        if key == 'backbone':
            node[key]['img_size'] = size
        elif key in _CHANNEL_KEYS:
            node[key] = _channels(value, sizes.channels)
        elif key in _COUNT_KEYS:
            node[key] = min(value, _NARROW)
        elif key == 'num_heads':
            node[key] = sizes.heads.get(value, value)
        elif key in _SIZE_KEYS:
            node[key] = _sides(value, size)
        elif key == 'norm_cfg' and value and value.get('type') == 'SyncBN':
            # SyncBN has no CPU kernel
            value['type'] = 'BN1d' if _takes_vectors(node) else 'BN'
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


def view_sizes(cfg: Config, size: int = SIZE) -> List[int]:
    """Sides of the views that a pre-training pipeline cuts, made small.

    Args:
        cfg (Config): With ``train_dataloader.dataset.pipeline``.
        size (int): Side of the largest view in pixels. Defaults to 64.

    Returns:
        List[int]: One side a view; views below the largest get three
        quarters of ``size``: 3x3 patches where the largest have 4x4.
    """
    sides: List[int] = []
    for step in cfg.train_dataloader.dataset.get('pipeline') or []:
        for view in step.get('views') or []:
            side = view.get('size', 224)
            side = side if isinstance(side, int) else max(side)
            sides += [side] * view.get('num', 1)
        counts = step.get('num_views') or []
        sides += [224] * sum([counts] if isinstance(counts, int) else counts)
    return [size if s == max(sides) else size * 3 // 4 for s in sides]


def _segmentation_batch(model: Any, batch: int, size: int) -> dict:
    from mmengine.structures import PixelData
    from mmseg.models.segmentors import DepthEstimator
    from mmseg.structures import SegDataSample

    metainfo = {
        'img_shape': (size, size),
        'ori_shape': (size, size),
        'pad_shape': (size, size),
    }
    samples = []
    for _ in range(batch):
        sample = SegDataSample(metainfo=metainfo)
        if isinstance(model, DepthEstimator):
            depth = torch.rand(1, size, size) * 9 + 0.5
            depth[:, :4] = 0  # not measured
            sample.gt_depth_map = PixelData(data=depth)
        else:
            classes = model.decode_head.num_classes
            labels = torch.randint(0, classes, (1, size, size))
            labels[:, :4] = 255
            sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return {'inputs': _images(batch, 3, size), 'data_samples': samples}


def _images(count: int, channels: int, size: int) -> List[Tensor]:
    shape = (channels, size, size)
    return [
        torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(count)
    ]


def tiny_batch(
    model: nn.Module,
    views: Sequence[int] = (SIZE, SIZE),
    batch: int = 2,
    size: int = SIZE,
    seed: int = 0,
) -> dict:
    """Synthetic batch in the form that a model's data loader gives.

    Args:
        model (nn.Module): A self-supervised method, or a segmentor or depth
            estimator of mmseg's data flow.
        views (Sequence[int]): Sides of the views in pixels, for
            self-supervised methods. Defaults to (64, 64).
        batch (int): Number of images. Defaults to 2.
        size (int): Side of labelled images in pixels. Defaults to 64.
        seed (int): Seed of the data. Defaults to 0.

    Returns:
        dict: ``inputs`` and ``data_samples`` for ``model.train_step``.

    Raises:
        NotImplementedError: If nothing is known about such a model.
    """
    from mmpretrain.models.selfsup import BaseSelfSupervisor
    from mmpretrain.structures import DataSample

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(model, BaseSelfSupervisor):
            return {
                'inputs': [torch.stack(_images(batch, 3, s)) for s in views],
                'data_samples': [DataSample() for _ in range(batch)],
            }
        if hasattr(model, 'decode_head'):
            return _segmentation_batch(model, batch, size)
    raise NotImplementedError(
        f'mmdense.testing.tiny has no data for {type(model).__name__}: add '
        'it to tiny_batch.'
    )


class Steps(NamedTuple):
    """What some training steps did.

    Attributes:
        losses (List[Dict[str, float]]): Logged values of each step.
        without_gradient (List[str]): Trainable parameters that got no
            gradient in the last step.
    """

    losses: List[Dict[str, float]]
    without_gradient: List[str]


@contextmanager
def _kept_gradients(wrapper: OptimWrapper) -> Iterator[None]:
    zero_grad = wrapper.zero_grad
    wrapper.zero_grad = lambda **kwargs: None
    try:
        yield
    finally:
        wrapper.zero_grad = zero_grad


def train_steps(
    model: Any, batch: dict, wrapper: OptimWrapper, steps: int = 2
) -> Steps:
    """Take training steps as the loops of mmengine do, teacher included.

    Args:
        model (nn.Module): With ``train_step``.
        batch (dict): See :func:`tiny_batch`.
        wrapper (OptimWrapper): Holds the optimiser.
        steps (int): At least 1. Defaults to 2.

    Returns:
        Steps: Losses, and parameters without a gradient.
    """
    losses: List[Dict[str, float]] = []

    def step() -> None:
        logged = model.train_step(batch, optim_wrapper=wrapper)
        losses.append({k: float(v) for k, v in logged.items()})

    # mmdense.MomentumUpdateHook
    has_teacher = hasattr(model, 'after_step')
    for index in range(steps):
        if has_teacher:
            model.before_step(index / steps)
        if index < steps - 1:
            step()
        else:
            wrapper.zero_grad(set_to_none=True)
            with _kept_gradients(wrapper):
                step()
        if has_teacher:
            model.after_step(index / steps)
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    return Steps(losses, missing)


def tensors_of(output: Any) -> Iterator[Tuple[str, Tensor]]:
    """Tensors of a nested output, with the path to each.

    Args:
        output: Tensors in dicts, lists and tuples; other things are skipped.

    Yields:
        Tuple[str, Tensor]: Path such as ``'[0].patches'``, and the tensor.
    """
    if isinstance(output, Tensor):
        yield '', output
    elif isinstance(output, dict):
        for key, value in output.items():
            for path, tensor in tensors_of(value):
                yield f'.{key}{path}', tensor
    elif isinstance(output, (list, tuple)):
        for index, value in enumerate(output):
            for path, tensor in tensors_of(value):
                yield f'[{index}]{path}', tensor
