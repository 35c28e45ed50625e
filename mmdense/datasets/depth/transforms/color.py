"""Colours of the image."""

from typing import Any, Dict, Optional, Tuple

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmdense.registry import TRANSFORMS
from mmdense.utils.errors import UserValueError


@TRANSFORMS.register_module()
class RandomGammaBrightnessColor(BaseTransform):
    """Gamma, brightness and a factor per channel, as in BTS.

    Sources: [0] Lee et al., From Big to Small (BTS), 2019, section 4.3.

    Args:
        gamma (Tuple[float, float]): Range of the exponent. Defaults to
            (0.9, 1.1).
        brightness (Tuple[float, float]): Range of the factor. Defaults to
            (0.75, 1.25).
        color (Tuple[float, float]): Range of the factor of each channel.
            Defaults to (0.9, 1.1).
        prob (float): Probability. Defaults to 0.5.
        unit_range (bool): Whether gamma works on values in [0, 1]. False
            works on 0-255, where it mostly changes brightness, as
            Monocular-Depth-Estimation-Toolbox does. Defaults to True.
    """

    def __init__(
        self,
        gamma: Tuple[float, float] = (0.9, 1.1),
        brightness: Tuple[float, float] = (0.75, 1.25),
        color: Tuple[float, float] = (0.9, 1.1),
        prob: float = 0.5,
        unit_range: bool = True,
    ) -> None:
        for name, (low, high) in dict(
            gamma=gamma, brightness=brightness, color=color
        ).items():
            if not 0 < low <= high:
                raise UserValueError(
                    f'RandomGammaBrightnessColor: {name}={(low, high)} is no '
                    'range of positive numbers'
                )
        self.gamma, self.brightness, self.color = gamma, brightness, color
        self.prob = prob
        self.unit_range = unit_range

    @cache_randomness
    def random_factors(self) -> Optional[Tuple[float, np.ndarray]]:
        """Draw gamma and the factor per channel; None to do nothing."""
        if np.random.rand() >= self.prob:
            return None
        gamma = np.random.uniform(*self.gamma)
        brightness = np.random.uniform(*self.brightness)
        return gamma, brightness * np.random.uniform(*self.color, size=3)

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Change the colours of ``img``.

        Args:
            results (dict): With ``img``, uint8 ``(H, W, 3)``.

        Returns:
            dict: With the new ``img``, uint8, clipped to 0-255.
        """
        factors = self.random_factors()
        if factors is None:
            return results
        gamma, channels = factors
        # one of 256 values per pixel and channel: tables beat pow
        top = 255.0 if self.unit_range else 1.0
        levels = (np.arange(256) / top) ** gamma
        table = levels[:, None] * channels * top
        table = np.clip(np.rint(table), 0, 255).astype(np.uint8)
        image = results['img']
        results['img'] = np.stack(
            [table[image[..., c], c] for c in range(3)], axis=-1
        )
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(gamma={self.gamma}, '
            f'brightness={self.brightness}, color={self.color}, '
            f'prob={self.prob}, unit_range={self.unit_range})'
        )
