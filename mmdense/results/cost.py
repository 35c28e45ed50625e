"""Arithmetic of a training, counted from its config, and what it takes.

Matrix products and convolutions of one image are counted on tensors without
data (``torch.utils.flop_counter``); a backward pass counts as two forward
passes. What memory, data loading and communication cost is in the assumed
utilisation alone, so hours are estimates, good to a factor of about two.

The utilisation of tensor cores is calibrated on the time that DINO's paper
states (Caron et al., 2021, Table 8): ViT-S/16, 300 epochs of ImageNet-1k,
views 2x224^2 + 10x96^2, takes 72.6 hours on 16 V100 (peak 125 TFLOP/s in
FP16); counted, that is a tenth of the peak.
"""

import logging
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..registry import MODELS
from ..utils.data_settings import inner_datasets
from ..utils.model_settings import forget_initial_weights
from .shapes import Size, images_seen, training_shape

GPU = 'A100'
# dense products, FLOP/s, data sheet of the GPU
PEAK = {'bf16': 312e12, 'tf32': 156e12, 'fp32': 19.5e12}
# fp32 has no tensor cores; that slow, memory limits it less (not calibrated)
UTILISATION = {'bf16': 0.1, 'tf32': 0.1, 'fp32': 0.5}
ASSUMPTION = (
    f'{GPU} at {UTILISATION["bf16"]:.0%} of its peak of '
    f'{PEAK["bf16"] / 1e12:g} TFLOP/s in mixed precision; without it, '
    f'convolutions at {UTILISATION["tf32"]:.0%} of {PEAK["tf32"] / 1e12:g} '
    f'(TF32) and matrix products at {UTILISATION["fp32"]:.0%} of '
    f'{PEAK["fp32"] / 1e12:g} (FP32)'
)
# the range of an estimate, times its hours
SPREAD = (0.5, 2.0)
# forward and backward pass, in forward passes
TRAINED = 3
# RoIs of an image that a second stage trains on, and those with a mask
_ROIS, _MASK_ROIS = 512, 128
# views that a teacher sees
_TEACHER = {'DINO': 'global', 'MoBY': 'all', 'LocalGlobal': 'none'}


class Macs(NamedTuple):
    """Multiply-adds.

    Attributes:
        total (float): All of them.
        conv (float): Those of convolutions, which torch runs in TF32 unless
            told otherwise; it runs matrix products in FP32.
    """

    total: float = 0.0
    conv: float = 0.0

    def plus(self, other: 'Macs', times: float = 1.0) -> 'Macs':
        """Sum with another count, that one times a factor."""
        return Macs(
            self.total + times * other.total, self.conv + times * other.conv
        )


class Cost(NamedTuple):
    """What a training computes.

    Attributes:
        forward (float): Multiply-adds of one forward pass of one image (one
            view of ``size`` in pre-training).
        flops (float): FLOPs of one training image, both passes, all views,
            teacher included.
        images (float, optional): Images seen; None if the size of the data
            is not known.
        size (Size): Height and width that were counted, of the largest view.
        amp (bool): Mixed precision.
        conv (float): Share of the FLOPs that is in convolutions, 0 to 1.
    """

    forward: float
    flops: float
    images: Optional[float]
    size: Size
    amp: bool
    conv: float = 0.0

    @property
    def gpu_hours(self) -> Optional[float]:
        """Hours of one GPU, see :data:`ASSUMPTION`; None if unknown."""
        if self.images is None:
            return None
        shares = {'tf32': self.conv, 'fp32': 1 - self.conv}
        if self.amp:
            shares = {'bf16': 1.0}
        seconds = sum(
            share / (PEAK[kind] * UTILISATION[kind])
            for kind, share in shares.items()
        )
        return self.flops * self.images * seconds / 3600


@contextmanager
def _quiet() -> Iterator[None]:
    """No log lines of models that are only counted."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)


def build_meta(config: Any, scope: str = 'mmdense') -> nn.Module:
    """Build a part of a model and drop the data of its weights.

    Args:
        config (dict): Of the part.
        scope (str): Default scope. Defaults to 'mmdense'.

    Returns:
        nn.Module: On the meta device, in evaluation mode.
    """
    if hasattr(config, 'to_dict'):
        config = config.to_dict()
    with _quiet(), DefaultScope.overwrite_default_scope(scope):
        # building on the meta device fails where numbers are read back
        config = ConfigDict(deepcopy(config))
        forget_initial_weights(config)
        model = MODELS.build(config)
        # some of mmpretrain's return nothing
        model.eval()
        return model.to('meta')


def count_macs(function: Any, *args: Any) -> Tuple[Macs, Any]:
    """Multiply-adds of a call on meta tensors.

    Args:
        function (Callable): Called once.
        *args: Its arguments.

    Returns:
        Tuple[Macs, Any]: Count and result.
    """
    counter = FlopCounterMode(display=False)
    with _quiet(), torch.no_grad(), counter:
        result = function(*args)
    found = counter.get_flop_counts().get('Global', {})
    conv = sum(n for op, n in found.items() if 'convolution' in str(op))
    return Macs(counter.get_total_flops() / 2, conv / 2), result


def _empty(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, device='meta')


def backbone_macs(config: Any, size: Size, scope: str = 'mmdense') -> Macs:
    """Multiply-adds of a backbone for one image.

    Args:
        config (dict): Of the backbone.
        size (Size): Height and width in pixels.
        scope (str): Default scope. Defaults to 'mmdense'.

    Returns:
        Macs: The count.
    """
    model = build_meta(config, scope)
    return count_macs(model, _empty(1, 3, *size))[0]


def _heads(part: Any) -> List[nn.Module]:
    """A head, or the heads of a list."""
    return list(part) if isinstance(part, nn.ModuleList) else [part]


def model_macs(config: Any, size: Size, scope: str = 'mmdense') -> Macs:
    """Multiply-adds of a segmentor, depth estimator or two-stage detector.

    The second stage takes 512 RoIs, 128 of them with a mask.

    Args:
        config (dict): Of the model.
        size (Size): Height and width in pixels.
        scope (str): Default scope. Defaults to 'mmdense'.

    Returns:
        Macs: Of one forward pass of one image in training.
    """
    model: Any = build_meta(config, scope)
    image = _empty(1, 3, *size)
    if not getattr(model, 'with_roi_head', False):
        total, features = count_macs(model.extract_feat, image)
        heads = [model.decode_head]
        auxiliary = getattr(model, 'auxiliary_head', None)
        if auxiliary is not None:
            heads += _heads(auxiliary)
        for head in heads:
            total = total.plus(count_macs(head, features)[0])
        return total
    total, features = count_macs(model.extract_feat, image)
    total = total.plus(count_macs(model.rpn_head, features)[0])
    roi = model.roi_head
    for name, number in (('bbox', _ROIS), ('mask', _MASK_ROIS)):
        if not getattr(roi, f'with_{name}', False):
            continue
        extractors = _heads(getattr(roi, f'{name}_roi_extractor'))
        for head, extractor in zip(
            _heads(getattr(roi, f'{name}_head')), extractors
        ):
            layers: Any = extractor.roi_layers
            side = layers[0].output_size
            side = side if isinstance(side, (tuple, list)) else (side, side)
            shape = (number, extractor.out_channels, *side)
            total = total.plus(count_macs(head, _empty(*shape))[0])
    return total


def _amp(cfg: Any) -> bool:
    kind = cfg['optim_wrapper'].get('type', '')
    return str(kind).rsplit('.', 1)[-1] == 'AmpOptimWrapper'


def _linear_macs(config: Any, scope: str) -> float:
    """Multiply-adds of a head of linear layers for one vector."""
    if config is None:
        return 0.0
    module = build_meta(config, scope)
    return float(sum(p.numel() for p in module.parameters() if p.ndim == 2))


def _tokens(backbone: Any, size: int) -> int:
    patch = backbone.get('patch_size', 16)
    # the last stage of a Swin is at 1/32
    return (size // (32 if 'Swin' in str(backbone['type']) else patch)) ** 2


def _pretraining_macs(cfg: Any) -> Tuple[Macs, Macs, Size]:
    """Multiply-adds of a global view, all those of an image, size."""
    model, scope = cfg['model'], cfg.get('default_scope') or 'mmdense'
    method = model.get('method', model)
    kind = method['type'].rsplit('.', 1)[-1]
    wrapped = method is not model
    data = inner_datasets(cfg['train_dataloader']['dataset'])[0]
    views = next(step['views'] for step in data['pipeline'] if 'views' in step)
    groups = [(v.get('num', 1), v.get('size', 224)) for v in views]
    largest = max(size for _, size in groups)
    sides = sorted({size for _, size in groups})
    bodies = {
        side: backbone_macs(method['backbone'], (side, side), scope)
        for side in sides
    }
    head = _linear_macs(method.get('neck'), scope)
    predictor = _linear_macs(method.get('predictor'), scope)
    patch = _linear_macs(model.get('patch_head'), scope)
    patch_predictor = _linear_macs(model.get('patch_predictor'), scope)
    pool = model.get('aggregation') or {}
    width, depth = pool.get('embed_dims', 0), pool.get('depth', 2)
    total = Macs()
    for number, side in groups:
        tokens = _tokens(method['backbone'], side)
        # class vector through the blocks, keys and values of its tokens
        pooled = depth * width**2 * (12 + 2 * tokens)
        student = bodies[side].plus(Macs(pooled))
        if kind == 'LocalGlobal':
            heads = (1 + tokens) * head
        else:
            heads = head + predictor + tokens * (patch + patch_predictor)
        student = student.plus(Macs(heads))
        total = total.plus(student, number * TRAINED)
        sees = 'all' if wrapped else _TEACHER.get(kind, 'none')
        if sees == 'all' or (sees == 'global' and side == largest):
            rest = pooled + head + tokens * patch
            # an aggregated target for each patch
            rest += tokens * 14 * depth * width**2
            total = total.plus(bodies[side].plus(Macs(rest)), number)
    return bodies[largest], total, (largest, largest)


def training_cost(cfg: Any, data: str = '') -> Cost:
    """Count what a config trains.

    Args:
        cfg (Config): Of a pre-training or fine-tuning.
        data (str): ``Training Data`` of its metafile. Defaults to ``''``.

    Returns:
        Cost: The counts.

    Raises:
        ValueError: If the size of the training images cannot be told.
    """
    fine_tuning = 'decode_head' in cfg['model'] or 'roi_head' in cfg['model']
    if fine_tuning:
        dataset = inner_datasets(cfg['train_dataloader']['dataset'])[0]
        found = training_shape(dataset['pipeline'], str(dataset['type']))
        if found is None:
            raise ValueError('the training pipeline fixes no size')
        divisor = 32
        size = (
            -(-found[0] // divisor) * divisor,
            -(-found[1] // divisor) * divisor,
        )
        scope = cfg.get('default_scope') or 'mmdense'
        forward = model_macs(cfg['model'], size, scope)
        whole = Macs().plus(forward, TRAINED)
    else:
        forward, whole, size = _pretraining_macs(cfg)
    return Cost(
        forward=forward.total,
        flops=2 * whole.total,
        images=images_seen(cfg, data),
        size=size,
        amp=_amp(cfg),
        conv=whole.conv / whole.total,
    )
