"""How to build and call every registered model component, for sweeps.

A component that is registered and has no recipe here fails a test.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..models.backbones.tokens import Tokens
from ..models.losses.patch_loss import PatchGroup
from ..registry import MODELS
from .tiny import build_model, tiny_batch


class Recipe(NamedTuple):
    """Smallest way to use a component.

    Attributes:
        settings (dict): Its config without ``type``.
        inputs (Callable): Makes the inputs of a built component.
        call (Callable): Takes the component and the inputs; returns nested
            tensors. Defaults to calling the component.
    """

    settings: Dict[str, Any]
    inputs: Callable[[Any], Tuple[Any, ...]]
    call: Callable[..., Any] = lambda module, *inputs: module(*inputs)


def _random(*shapes: Tuple[int, ...]) -> Callable[[nn.Module], Tuple]:
    return lambda module: tuple(
        torch.randn(shape, requires_grad=True) for shape in shapes
    )


def _depth(module: nn.Module) -> Tuple[Any, ...]:
    """Prediction, target with gaps, mask and image of a depth loss."""
    pred = (torch.rand(2, 1, 8, 8) * 9 + 0.5).requires_grad_()
    target = torch.rand(2, 1, 8, 8) * 9 + 0.5
    target[..., :2] = 0
    return pred, target, target > 0, torch.rand(2, 3, 8, 8)


def _preprocessed(module: Any) -> Tuple[Any, ...]:
    data = module.data_preprocessor(tiny_batch(module, size=32), True)
    return data['inputs'], data['data_samples']


def _views(module: Any) -> Tuple[Any, ...]:
    data = tiny_batch(module, views=(32, 32))
    return module.data_preprocessor(data)['inputs'], data['data_samples']


def _two_views(module: nn.Module) -> Tuple[Any, ...]:
    def view() -> Tuple[Tensor, Tensor]:
        return (
            torch.randn(3, 8, requires_grad=True),
            torch.randn(3, 4, 8, requires_grad=True),
        )

    return ([view(), view()],)


def _frozen(*shapes: Tuple[int, ...]) -> Tuple[Tensor, ...]:
    return tuple(torch.randn(shape) for shape in shapes)


def _logits(module: Any) -> Tuple[Any, ...]:
    """Logits of three views of two images, and of two from a teacher."""
    student = torch.randn(6, 8, requires_grad=True)
    return (student, *_frozen((4, 8)), 2)


def _predictions(module: nn.Module) -> Tuple[Any, ...]:
    return (*_random((2, 8), (2, 8))(module), *_frozen((2, 8), (2, 8)))


def _patches(head: Dict[str, Any], predictor: Any = None) -> Callable:
    """Patches of two crops of two images, heads, and global vectors."""

    def inputs(module: nn.Module) -> Tuple[Any, ...]:
        goals = torch.randn(4, 9, 8)
        group = PatchGroup(
            torch.randn(4, 9, 8, requires_grad=True),
            2,
            lambda start, stop: goals[start:stop],
        )
        own, teacher = MODELS.build(head), MODELS.build(head)
        predict = None if predictor is None else MODELS.build(predictor)
        return ([group], own, teacher, predict, torch.randn(4, 8))

    return inputs


def _crops(module: Any) -> Tuple[Any, ...]:
    shapes = ((2, 3, 8, 8), (2, 3, 8, 8), (2, 3, 4, 4))
    return ([torch.rand(s, requires_grad=True) for s in shapes],)


def _call_preprocessor(module: Any, crops: Any) -> Any:
    return module(dict(inputs=crops, data_samples=None), training=True)


def _call_loss(module: Any, *inputs: Any) -> Any:
    return module.loss(*inputs)


def _call_maps(module: nn.Module, *maps: Tensor) -> Any:
    return module(list(maps))


def _call_bins(module: Any, *maps: Tensor) -> Any:
    return module.decode(maps)


def _hybrid_taps(*parts: Tensor) -> List[Any]:
    """Two maps, then patches and class token of two layers."""
    fine, coarse, *tokens = parts
    pairs = zip(tokens[0::2], tokens[1::2])
    layers = [Tokens(cls, patches, (4, 4)) for patches, cls in pairs]
    return [fine, coarse, *layers]


def _call_dpt(module: nn.Module, *parts: Tensor) -> Any:
    return module(_hybrid_taps(*parts))


def _call_dpt_seg(module: Any, *parts: Tensor) -> Any:
    fused = module.fuse(_hybrid_taps(*parts))
    return module.classify(fused[-1]), module.classify_aux(fused[-2])


_VIT = dict(
    arch=dict(
        embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16
    ),
    img_size=32,
)
_SWIN = dict(
    arch=dict(embed_dims=8, depths=[2, 1], num_heads=[1, 2]),
    img_size=32,
    window_size=4,
    out_indices=(0, 1),
)
_LOCAL_GLOBAL_LOSS = dict(type='mmdense.LocalGlobalLoss')
_PIXELS = dict(mean=[127.5] * 3, std=[127.5] * 3)
_TOKENS = dict(type='mmdense.VisionTransformer', out_type='tokens', **_VIT)
_RAW = dict(_TOKENS, with_cls_token=False, final_norm=False)
_DPT = dict(
    in_channels=[8] * 4,
    levels=['map', 'map', 'tokens', 'tokens'],
    reassemble_channels=[8, 8, 6, 4],
    channels=8,
)
_DPT_TAPS = _random(
    (2, 8, 16, 16), (2, 8, 8, 8), (2, 16, 8), (2, 8), (2, 16, 8), (2, 8)
)
_DINO_HEAD = dict(
    in_channels=8,
    out_channels=8,
    hid_channels=8,
    bottleneck_channels=4,
    norm_last_layer=False,
)


def _head(width: int) -> Dict[str, Any]:
    return dict(_DINO_HEAD, type='mmdense.DINOHead', in_channels=width)


def _projector(width: int) -> Dict[str, Any]:
    return dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=width,
        hid_channels=8,
        out_channels=8,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d'),
    )


_DINO = dict(
    neck=_head(16), loss=dict(type='mmdense.DINOLoss', out_channels=8)
)
_MOBY = dict(
    neck=_projector(16),
    predictor=_projector(8),
    loss=dict(type='mmdense.MoBYLoss', channels=8, queue_size=8),
)

RECIPES: Dict[str, Recipe] = {
    # backbones
    'VisionTransformer': Recipe(_VIT, _random((2, 3, 32, 48))),
    'DistilledVisionTransformer': Recipe(_VIT, _random((2, 3, 32, 48))),
    'HybridVisionTransformer': Recipe(
        dict(
            _VIT,
            layers=(1, 1, 1),
            out_indices=('stem0', 1),
            out_type='featmap',
        ),
        _random((2, 3, 32, 48)),
    ),
    'SwinTransformer': Recipe(_SWIN, _random((2, 3, 32, 32))),
    # necks
    'TokenProjector': Recipe(
        dict(in_channels=8, hid_channels=8, out_channels=4),
        _random((2, 8), (2, 4, 8)),
    ),
    'DINOHead': Recipe(_DINO_HEAD, _random((3, 8))),
    'ClassAttentionPooling': Recipe(
        dict(embed_dims=8, num_heads=2), _random((2, 9, 8))
    ),
    'DPTDecoder': Recipe(_DPT, _DPT_TAPS, _call_dpt),
    # heads
    'LocalGlobalHead': Recipe(
        dict(loss=_LOCAL_GLOBAL_LOSS), _two_views, _call_loss
    ),
    'UpProjDepthHead': Recipe(
        dict(in_channels=8, channels=[8, 4]),
        _random((2, 8, 4, 4)),
        _call_maps,
    ),
    'UPerDepthHead': Recipe(
        dict(in_channels=[8] * 4, channels=8),
        _random(*((2, 8, side, side) for side in (16, 8, 4, 2))),
        _call_maps,
    ),
    'BinsFormerDepthHead': Recipe(
        dict(
            in_channels=[8] * 4,
            channels=8,
            num_queries=4,
            scene_classes=3,
            num_layers=3,
            aux_layers=[1],
            aux_weights=[0.5],
            encoder=dict(num_layers=1, num_heads=2, feedforward_channels=8),
            decoder=dict(num_heads=2, feedforward_channels=8),
        ),
        _random(*((2, 8, side, side) for side in (16, 8, 4, 2))),
        _call_bins,
    ),
    'DPTDepthHead': Recipe(
        dict(_DPT, loss_decode=dict(type='mmdense.SILogLoss')),
        _DPT_TAPS,
        _call_dpt,
    ),
    'DPTSegHead': Recipe(dict(_DPT, num_classes=5), _DPT_TAPS, _call_dpt_seg),
    # losses
    'LocalGlobalLoss': Recipe(
        {}, _random((3, 8), (3, 4, 8), (3, 8), (3, 4, 8))
    ),
    'DINOLoss': Recipe(dict(out_channels=8), _logits),
    'MoBYLoss': Recipe(dict(channels=8, queue_size=8), _predictions),
    'PatchDistillationLoss': Recipe(
        dict(out_channels=8, chunk_size=18), _patches(_head(8))
    ),
    'PatchContrastLoss': Recipe(
        dict(channels=8, queue_size=8), _patches(_projector(8), _projector(8))
    ),
    'BerHuLoss': Recipe({}, _depth),
    'DepthGradientLoss': Recipe({}, _depth),
    'SILogLoss': Recipe({}, _depth),
    'SSILoss': Recipe({}, _depth),
    # data preprocessors
    'MultiCropPreprocessor': Recipe(
        dict(
            augment=[dict(num=2, hue=0.0, blur_prob=0.0), dict(gray_prob=0.5)],
            **_PIXELS,
        ),
        _crops,
        _call_preprocessor,
    ),
    # whole models
    'DINO': Recipe(dict(backbone=_TOKENS, **_DINO), _views, _call_loss),
    'MoBY': Recipe(dict(backbone=_TOKENS, **_MOBY), _views, _call_loss),
    'SelfPatch': Recipe(
        dict(
            method=dict(type='mmdense.DINO', backbone=_RAW, **_DINO),
            aggregation=dict(
                type='mmdense.ClassAttentionPooling',
                embed_dims=16,
                num_heads=2,
            ),
            matching=dict(top_k=2),
            patch_head=_head(16),
            patch_loss=dict(
                type='mmdense.PatchDistillationLoss', out_channels=8
            ),
        ),
        _views,
        _call_loss,
    ),
    'LocalGlobal': Recipe(
        dict(
            backbone=dict(
                type='mmdense.VisionTransformer', out_type='raw', **_VIT
            ),
            neck=dict(
                type='mmdense.TokenProjector',
                in_channels=16,
                hid_channels=8,
                out_channels=4,
            ),
            head=dict(type='mmdense.LocalGlobalHead', loss=_LOCAL_GLOBAL_LOSS),
            data_preprocessor=dict(
                type='mmpretrain.SelfSupDataPreprocessor', **_PIXELS
            ),
        ),
        _views,
        _call_loss,
    ),
    'EncoderDecoder': Recipe(
        dict(
            backbone=dict(
                type='mmdense.VisionTransformer', out_type='featmap', **_VIT
            ),
            decode_head=dict(
                type='mmseg.FCNHead',
                in_channels=16,
                channels=4,
                num_convs=1,
                num_classes=4,
                loss_decode=dict(type='mmseg.CrossEntropyLoss'),
            ),
            data_preprocessor=dict(
                type='mmseg.SegDataPreProcessor', size=(32, 32), **_PIXELS
            ),
        ),
        _preprocessed,
        _call_loss,
    ),
    'DepthEstimator': Recipe(
        dict(
            backbone=dict(
                type='mmdense.VisionTransformer', out_type='featmap', **_VIT
            ),
            decode_head=dict(
                type='mmdense.UpProjDepthHead', in_channels=16, channels=[8, 4]
            ),
            data_preprocessor=dict(
                type='mmseg.SegDataPreProcessor',
                size=(32, 32),
                seg_pad_val=0,
                **_PIXELS,
            ),
        ),
        _preprocessed,
        _call_loss,
    ),
}


def build_component(name: str, seed: int = 0) -> nn.Module:
    """Build a registered component with the arguments of its recipe.

    Args:
        name (str): A key of :data:`RECIPES`.
        seed (int): Seed of the weights. Defaults to 0.

    Returns:
        nn.Module: In training mode.
    """
    settings = dict(RECIPES[name].settings, type=f'mmdense.{name}')
    model = Config(dict(default_scope='mmdense', model=settings))
    return build_model(model, seed)
