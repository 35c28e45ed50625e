"""From the size of the network input back to that of the image."""

from typing import Any, Dict, Mapping, Tuple

import torch.nn.functional as F
from torch import Tensor

_FLIPPED: Dict[str, Tuple[int, ...]] = dict(
    horizontal=(3,), vertical=(2,), diagonal=(2, 3)
)


def to_original_size(
    maps: Tensor,
    meta: Mapping[str, Any],
    interpolation: str = 'bilinear',
    align_corners: bool = False,
) -> Tensor:
    """Undo padding, mirroring and resizing of one image's output.

    Args:
        maps (Tensor): ``(1, C, H, W)`` of the size of the network input.
        meta (Mapping): Meta information of the image: ``img_padding_size``
            or ``padding_size`` (left, right, top, bottom) is cut off, ``flip``
            with its ``flip_direction`` undone, the rest resized to
            ``ori_shape``.
        interpolation (str): 'bilinear' or 'bicubic'. Defaults to 'bilinear'.
        align_corners (bool): Of the resizing. Defaults to False.

    Returns:
        Tensor: ``(1, C, H', W')``; float32 where it was resized.
    """
    padding = meta.get('padding_size', (0, 0, 0, 0))
    left, right, top, bottom = meta.get('img_padding_size', padding)
    height, width = maps.shape[2:]
    maps = maps[..., top : height - bottom, left : width - right]
    if meta.get('flip'):
        maps = maps.flip(_FLIPPED[meta.get('flip_direction', 'horizontal')])
    size = tuple(meta['ori_shape'][:2])
    if tuple(maps.shape[2:]) == size:
        return maps
    return F.interpolate(
        maps.float(),
        size=size,
        mode=interpolation,
        align_corners=align_corners,
    )
