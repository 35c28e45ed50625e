"""mmcv 2.1 ``adjust_hue(backend='pillow')`` overflows under numpy 2."""

from functools import wraps
from types import ModuleType
from typing import Any, Optional

import numpy as np

from .hooks_on_import import rebind, when_imported


def needed(module: ModuleType) -> bool:
    """Whether a negative hue factor overflows."""
    try:
        module.adjust_hue(np.zeros((1, 1, 3), np.uint8), -0.1, 'pillow')
    except OverflowError:
        return True
    return False


def shift_hue(img: np.ndarray, hue_factor: float) -> np.ndarray:
    """Turn the hue of an image, as ``mmcv.adjust_hue`` with pillow does.

    Args:
        img (np.ndarray): BGR image ``(H, W, 3)``, uint8.
        hue_factor (float): Share of the colour circle, in [-0.5, 0.5].

    Returns:
        np.ndarray: BGR image of the same shape.
    """
    from PIL import Image

    hsv = Image.fromarray(np.ascontiguousarray(img[..., ::-1])).convert('HSV')
    channels = np.array(hsv)
    shift = np.uint8(int(hue_factor * 255) % 256)
    channels[..., 0] += shift
    rgb = Image.frombytes('HSV', hsv.size, channels.tobytes()).convert('RGB')
    return np.array(rgb)[..., ::-1].astype(img.dtype)


def _mend(module: ModuleType) -> None:
    if not needed(module):
        return
    stock = module.adjust_hue

    @wraps(stock)
    def adjust_hue(
        img: Any, hue_factor: float, backend: Optional[str] = None
    ) -> Any:
        try:
            return stock(img, hue_factor, backend)
        except OverflowError:
            return shift_hue(img, hue_factor)

    module.adjust_hue = adjust_hue  # type: ignore[attr-defined]
    rebind(stock, adjust_hue, ('mmcv', 'mmpretrain', 'mmseg', 'mmdet'))


def install() -> None:
    """Mend mmcv when it is imported."""
    when_imported('mmcv.image.photometric', _mend)
