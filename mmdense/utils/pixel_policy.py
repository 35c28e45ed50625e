"""Distributions of what happens to the pixels of a crop."""

import math
from dataclasses import dataclass
from typing import Optional, Tuple

Range = Tuple[float, float]

# beyond this many sigmas a Gaussian has less than 0.05 % of its weight
BLUR_REACH = 3.5


def blur_radius(sigma: float, side: int, limit: Optional[float]) -> int:
    """How far the kernel of a Gaussian blur reaches.

    Args:
        sigma (float): Standard deviation in pixels.
        side (int): Shorter side of the image.
        limit (float, optional): Width of the kernel as a share of ``side``,
            at most; at least three taps are left.

    Returns:
        int: Taps on each side of the middle one.
    """
    radius = max(1, math.ceil(BLUR_REACH * sigma))
    if limit is None:
        return radius
    return min(radius, max(1, int(limit * side) // 2))


@dataclass
class PixelPolicy:
    """Distributions of the augmentations that follow a crop.

    They are applied in the order of the arguments: flip, colour jitter,
    loss of colour, blur, solarisation. The defaults are the policy of SimCLR
    at strength 1 (Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for
    Contrastive Learning of Visual Representations", ICML 2020, appendix A).

    Args:
        flip_prob (float): Horizontal flip. Defaults to 0.5.
        jitter_prob (float): Colour jitter, its four operations in random
            order. Defaults to 0.8.
        brightness (float): Factor uniform in [max(0, 1 - b), 1 + b].
            Defaults to 0.8.
        contrast (float): As brightness. Defaults to 0.8.
        saturation (float): As brightness. Defaults to 0.8.
        hue (float): Shift uniform in [-h, h], share of the colour circle,
            at most 0.5. Defaults to 0.2.
        gray_prob (float): Loss of colour. Defaults to 0.2.
        blur_prob (float): Gaussian blur. Defaults to 0.5.
        sigma (Tuple[float, float]): Its standard deviation, uniform, in
            output pixels. Defaults to (0.1, 2.0).
        blur_limit (float, optional): Width of its kernel as a share of the
            view's side, at most. Defaults to 0.1, as in SimCLR; None for the
            whole Gaussian, as in DINO and MoBY.
        solarize_prob (float): Solarisation, as in BYOL and DINO. Defaults
            to 0.0.
        solarize_threshold (int): Values from here on are inverted. Defaults
            to 128.

    Raises:
        ValueError: If a value is out of its range.
    """

    flip_prob: float = 0.5
    jitter_prob: float = 0.8
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    gray_prob: float = 0.2
    blur_prob: float = 0.5
    sigma: Range = (0.1, 2.0)
    blur_limit: Optional[float] = 0.1
    solarize_prob: float = 0.0
    solarize_threshold: int = 128

    def __post_init__(self) -> None:
        for name in ('flip', 'jitter', 'gray', 'blur', 'solarize'):
            value = getattr(self, f'{name}_prob')
            if not 0 <= value <= 1:
                raise ValueError(
                    f'{name}_prob={value}: a probability is in [0, 1].'
                )
        self.check_range('sigma')
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f'hue={self.hue}: needs 0 <= hue <= 0.5.')
        for name in ('brightness', 'contrast', 'saturation'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name} must not be negative.')
        if self.blur_limit is not None and not 0 < self.blur_limit <= 2:
            raise ValueError(
                f'blur_limit={self.blur_limit}: a share of the side above 0, '
                'or None for no limit.'
            )

    def check_range(self, name: str, high: float = float('inf')) -> None:
        """Refuse a pair that is not ``0 < first <= last <= high``.

        Args:
            name (str): Of the attribute.
            high (float): Upper limit. Defaults to infinity.

        Raises:
            ValueError: If it is not.
        """
        first, last = getattr(self, name)
        if not 0 < first <= last <= high:
            raise ValueError(
                f'{name}={(first, last)}: needs 0 < first <= last <= {high:g}.'
            )
