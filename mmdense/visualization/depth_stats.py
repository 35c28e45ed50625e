"""What depth maps hold, gathered image by image in constant memory."""

import math
from typing import List, Tuple

import numpy as np

from .depth import valid_depth

# bins of a logarithmic histogram, 0.25 % of the depth wide
_LOW, _HIGH, _STEP = 1e-5, 1e6, 0.0025
_BINS = int(math.ceil(math.log(_HIGH / _LOW) / _STEP))
_BAR = 40


class DepthStatistics:
    """Histogram, percentiles and invalid pixels of a set of depth maps.

    Every image weighs the same in the histogram, however many of its pixels
    are valid. Percentiles are exact to 0.25 % of their value.
    """

    def __init__(self) -> None:
        self.images = 0
        self.empty = 0
        self.pixels = 0
        self.valid = 0
        self.least = math.inf
        self.largest = 0.0
        self._mass = np.zeros(_BINS)

    def add(self, depth: np.ndarray) -> None:
        """Take one map.

        Args:
            depth (np.ndarray): ``(H, W)``; <= 0 or not finite is invalid.
        """
        valid = depth[valid_depth(depth)].astype(np.float64)
        self.images += 1
        self.pixels += depth.size
        self.valid += valid.size
        if not valid.size:
            self.empty += 1
            return
        self.least = min(self.least, float(valid.min()))
        self.largest = max(self.largest, float(valid.max()))
        index = (np.log(valid / _LOW) / _STEP).astype(np.int64)
        counts = np.bincount(index.clip(0, _BINS - 1), minlength=_BINS)
        self._mass += counts / valid.size

    def merge(self, other: 'DepthStatistics') -> None:
        """Take the maps of other statistics, too.

        Args:
            other (DepthStatistics): Stays as it is.
        """
        self.images += other.images
        self.empty += other.empty
        self.pixels += other.pixels
        self.valid += other.valid
        self.least = min(self.least, other.least)
        self.largest = max(self.largest, other.largest)
        self._mass += other._mass

    @property
    def invalid(self) -> float:
        """float: Share of pixels without depth."""
        return 1 - self.valid / self.pixels if self.pixels else 0.0

    def percentile(self, percent: float) -> float:
        """Depth below which a share of the pixels lies.

        Args:
            percent (float): In [0, 100].

        Returns:
            float: In the unit of the maps; NaN if no pixel is valid.
        """
        total = self._mass.sum()
        if not total:
            return math.nan
        below = np.cumsum(self._mass) / total
        index = int(np.searchsorted(below, min(percent / 100, below[-1])))
        value = float(_LOW * np.exp((index + 0.5) * _STEP))
        return min(max(value, self.least), self.largest)

    @property
    def median(self) -> float:
        """float: The 50th percentile."""
        return self.percentile(50)

    def best_constant(self, ratio: float = 1.25) -> float:
        """The depth that is within a ratio of most pixels.

        Args:
            ratio (float): Of delta1. Defaults to 1.25.

        Returns:
            float: The constant with the best delta1; NaN if no pixel is
            valid.
        """
        if not self._mass.any():
            return math.nan
        width = max(int(round(2 * math.log(ratio) / _STEP)), 1)
        sums = np.concatenate(([0.0], np.cumsum(self._mass)))
        inside = sums[width:] - sums[:-width]
        best = np.flatnonzero(inside >= inside.max() * (1 - 1e-12))
        # in the middle of equally good ones
        start = float(best.mean())
        return float(_LOW * np.exp((start + width / 2) * _STEP))

    def histogram(
        self, bins: int = 16
    ) -> Tuple[List[float], List[float], float]:
        """Shares of pixels in bins of equal width.

        Args:
            bins (int): At most so many. Defaults to 16.

        Returns:
            Tuple[list, list, float]: Lower ends of the bins, shares of the
            valid pixels, and the share beyond the last bin.
        """
        total = self._mass.sum()
        if not total:
            return [], [], 0.0
        top = self.percentile(99.5)
        raw = top / bins
        power = 10.0 ** math.floor(math.log10(raw))
        factor = next(f for f in (1, 2, 2.5, 5, 10) if f * power >= raw * 0.99)
        step = factor * power
        number = int(math.ceil(top / step - 1e-9))
        centres = _LOW * np.exp((np.arange(_BINS) + 0.5) * _STEP)
        index = np.minimum((centres / step).astype(np.int64), number)
        shares = np.bincount(index, self._mass, number + 1) / total
        lower = [step * i for i in range(number)]
        return lower, shares[:number].tolist(), float(shares[number])

    def lines(self, unit: str = 'm') -> List[str]:
        """The statistics for the terminal.

        Args:
            unit (str): Unit of depth. Defaults to 'm'.

        Returns:
            List[str]: Lines without line ends.
        """
        lines = [
            f'{self.images} images, {100 * self.invalid:.1f} % of the pixels '
            f'without depth, {self.empty} images without any',
        ]
        if not self.valid:
            return lines
        lines.append(
            f'from {self.least:.4g} to {self.largest:.4g} {unit}; '
            + ', '.join(
                f'{p} %: {self.percentile(p):.3g}'
                for p in (1, 5, 25, 50, 75, 95, 99)
            )
        )
        lower, shares, beyond = self.histogram()
        step = lower[1] - lower[0] if len(lower) > 1 else lower[0] or 1.0
        texts = [f'{low:.4g}' for low in lower]
        if beyond > 0:
            texts.append(f'>= {lower[-1] + step:.4g}')
            shares = [*shares, beyond]
        width = max(len(t) for t in texts)
        largest = max(shares)
        for text, share in zip(texts, shares):
            bar = '#' * int(round(_BAR * share / largest))
            lines.append(
                f'{text:>{width}} {unit} {100 * share:5.1f} % {bar}'.rstrip()
            )
        return lines
