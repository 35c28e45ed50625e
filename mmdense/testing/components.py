"""How to build and call every registered model component, for sweeps.

A component that is registered and has no recipe here fails a test.
"""

from typing import Any, Callable, Dict, NamedTuple, Tuple

import torch
from mmengine.config import Config
from torch import Tensor, nn

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


def _call_loss(module: Any, *inputs: Any) -> Any:
    return module.loss(*inputs)


def _call_maps(module: nn.Module, *maps: Tensor) -> Any:
    return module(list(maps))


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

RECIPES: Dict[str, Recipe] = {
    # backbones
    'VisionTransformer': Recipe(_VIT, _random((2, 3, 32, 48))),
    'SwinTransformer': Recipe(_SWIN, _random((2, 3, 32, 32))),
    # necks
    'TokenProjector': Recipe(
        dict(in_channels=8, hid_channels=8, out_channels=4),
        _random((2, 8), (2, 4, 8)),
    ),
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
    # losses
    'LocalGlobalLoss': Recipe(
        {}, _random((3, 8), (3, 4, 8), (3, 8), (3, 4, 8))
    ),
    'BerHuLoss': Recipe({}, _depth),
    'DepthGradientLoss': Recipe({}, _depth),
    'SILogLoss': Recipe({}, _depth),
    # whole models
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
