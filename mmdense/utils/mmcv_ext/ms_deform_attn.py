"""Multi-scale deformable attention (Zhu et al. 2021, equation 3)."""

from functools import lru_cache
from typing import List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .torchvision_ops import computing_dtype

# Images in one piece of the compiled kernel, mmcv's default.
_IM2COL_STEP = 64


def _attend(
    value: Tensor,
    shapes: Sequence[Sequence[int]],
    locations: Tensor,
    weights: Tensor,
) -> Tensor:
    """Differentiable form; shapes as in :func:`ms_deform_attn_forward`."""
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    grid = 2 * locations - 1
    levels = value.split([h * w for h, w in shapes], dim=1)
    output = value.new_zeros((batch * heads, channels, queries))
    for level, (features, (height, width)) in enumerate(zip(levels, shapes)):
        maps = features.permute(0, 2, 3, 1)
        maps = maps.reshape(batch * heads, channels, height, width)
        points = grid[:, :, :, level].transpose(1, 2).flatten(0, 1)
        # Locations in [0, 1] span the outer edges of the corner pixels.
        sampled = F.grid_sample(
            maps,
            points,
            mode='bilinear',
            padding_mode='zeros',
            align_corners=False,
        )
        share = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)
        output = output + (sampled * share[:, None]).sum(-1)
    output = output.view(batch, heads * channels, queries)
    return output.transpose(1, 2).contiguous()


def _level_shapes(spatial_shapes: Tensor, keys: int) -> List[List[int]]:
    # The one read on the host: the maps have to be cut to size.
    shapes = spatial_shapes.tolist()
    total = sum(height * width for height, width in shapes)
    if total != keys:
        raise ValueError(
            f'ms_deform_attn: spatial_shapes {shapes} hold {total} '
            f'positions, value has {keys}'
        )
    return shapes


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sample and sum values around each query on several levels.

    Args:
        value (torch.Tensor): Values of all levels, one after the other, shape
            ``(B, S, heads, C)``.
        value_spatial_shapes (torch.Tensor): ``(height, width)`` of each
            level, int64, shape ``(L, 2)``.
        value_level_start_index (torch.Tensor): First position of each level,
            shape ``(L,)``; follows from the shapes and is not read.
        sampling_locations (torch.Tensor): ``(x, y)`` relative to the size of
            the level, shape ``(B, Q, heads, L, P, 2)``.
        attention_weights (torch.Tensor): Shape ``(B, Q, heads, L, P)``.
        im2col_step (int): Unused; the batch is not split.

    Returns:
        torch.Tensor: Shape ``(B, Q, heads * C)``, in the type of ``value``.

    Raises:
        ValueError: If the shapes of the levels do not add up to S.
    """
    dtype = computing_dtype(value)
    output = _attend(
        value.to(dtype),
        _level_shapes(value_spatial_shapes, value.shape[1]),
        sampling_locations.to(dtype),
        attention_weights.to(dtype),
    )
    return output.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Gradients of :func:`ms_deform_attn_forward`, by recomputation.

    Args:
        value (torch.Tensor): As in the forward pass.
        value_spatial_shapes (torch.Tensor): As in the forward pass.
        value_level_start_index (torch.Tensor): As in the forward pass.
        sampling_locations (torch.Tensor): As in the forward pass.
        attention_weights (torch.Tensor): As in the forward pass.
        grad_output (torch.Tensor): Gradient of the output, shape
            ``(B, Q, heads * C)``.
        grad_value (torch.Tensor): Buffer to which the gradient is added.
        grad_sampling_loc (torch.Tensor): Buffer overwritten by the gradient.
        grad_attn_weight (torch.Tensor): Buffer overwritten by the gradient.
        im2col_step (int): Unused.

    Raises:
        ValueError: If the shapes of the levels do not add up to S.
    """
    dtype = computing_dtype(value)
    shapes = _level_shapes(value_spatial_shapes, value.shape[1])
    with torch.enable_grad():
        leaves = [
            tensor.detach().to(dtype).requires_grad_()
            for tensor in (value, sampling_locations, attention_weights)
        ]
        output = _attend(leaves[0], shapes, leaves[1], leaves[2])
    gradients = torch.autograd.grad(output, leaves, grad_output.to(dtype))
    grad_value.add_(gradients[0])
    grad_sampling_loc.copy_(gradients[1])
    grad_attn_weight.copy_(gradients[2])


def deformable_attention(
    value: Tensor,
    shapes: Sequence[Sequence[int]],
    locations: Tensor,
    weights: Tensor,
) -> Tensor:
    """Multi-scale deformable attention that never waits for the device.

    The compiled kernel on a GPU where mmcv has one, else plain PyTorch with
    its own gradient. Half types are computed in float32, also under autocast:
    in half precision the locations lose the fractions of a pixel.

    Args:
        value (torch.Tensor): Values of all levels, one after the other, shape
            ``(B, S, heads, C)``.
        shapes (Sequence[Sequence[int]]): ``(height, width)`` of each level.
        locations (torch.Tensor): ``(x, y)`` relative to the size of the
            level, in [0, 1] inside it, shape ``(B, Q, heads, L, P, 2)``.
        weights (torch.Tensor): Shape ``(B, Q, heads, L, P)``.

    Returns:
        torch.Tensor: Shape ``(B, Q, heads * C)``, float32 (float64 for
        float64 values).

    Raises:
        ValueError: If the shapes of the levels do not add up to S.
    """
    sizes = tuple((int(height), int(width)) for height, width in shapes)
    total = sum(height * width for height, width in sizes)
    if total != value.shape[1]:
        raise ValueError(
            f'deformable_attention: levels {sizes} hold {total} positions, '
            f'value has {value.shape[1]}'
        )
    dtype = computing_dtype(value)
    with torch.autocast(value.device.type, enabled=False):
        value, locations = value.to(dtype), locations.to(dtype)
        weights = weights.to(dtype)
        if value.is_cuda and _is_compiled():
            return _compiled_kernel(value, sizes, locations, weights)
        return _attend(value, sizes, locations, weights)


def _compiled_kernel(
    value: Tensor,
    sizes: Tuple[Tuple[int, int], ...],
    locations: Tensor,
    weights: Tensor,
) -> Tensor:
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
    )

    step = min(_IM2COL_STEP, len(value))
    while len(value) % step:  # the kernel wants even pieces
        step -= 1
    return MultiScaleDeformableAttnFunction.apply(
        value.contiguous(),
        *_level_tensors(sizes, str(value.device)),
        locations.contiguous(),
        weights.contiguous(),
        step,
    )


def _is_compiled() -> bool:
    """Whether mmcv brings its own kernels."""
    from mmcv import _ext

    return _ext.ms_deform_attn_forward is not ms_deform_attn_forward


# The copy to a GPU makes the host wait: once for each input size.
@lru_cache(maxsize=256)
def _level_tensors(
    sizes: Tuple[Tuple[int, int], ...], device: str
) -> Tuple[Tensor, Tensor]:
    """Shapes of the levels ``(L, 2)`` and first positions ``(L,)``."""
    shapes = torch.tensor(sizes, dtype=torch.int64, device=device)
    areas = shapes.prod(dim=1)
    return shapes, areas.cumsum(0) - areas
