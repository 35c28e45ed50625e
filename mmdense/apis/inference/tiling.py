"""Overlapping windows over a large image, and their depth put together."""

import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from ...utils.errors import UserValueError

Size = Tuple[int, int]
# a window whose prediction varies less than this has no scale of its own
_FLAT = 1e-6


class Window(NamedTuple):
    """A part of an image: first row and column, height and width."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> Tuple[slice, slice]:
        """Tuple[slice, slice]: Its rows and columns."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


def check_tiling(tile: Any, overlap: float) -> Size:
    """Size of the windows.

    Args:
        tile (int or Sequence[int]): Side, or height and width in pixels.
        overlap (float): Share of a window that its neighbour has too.

    Returns:
        Tuple[int, int]: Height and width.

    Raises:
        UserValueError: If they are no size, or no share in (0, 0.5].
    """
    sides = [tile, tile] if isinstance(tile, int) else list(tile)
    whole = all(isinstance(side, (int, np.integer)) for side in sides)
    if len(sides) != 2 or not whole or min(sides) < 16:
        raise UserValueError(
            f'tile={tile!r}: give a side or height and width in pixels, 16 '
            'or more.'
        )
    if not 0 < overlap <= 0.5:
        raise UserValueError(f'overlap={overlap} is not above 0 and up to 0.5')
    return int(sides[0]), int(sides[1])


def _starts(length: int, side: int, shared: int) -> List[int]:
    """First pixels of windows spread evenly, ``shared`` or more in common."""
    if side >= length:
        return [0]
    count = math.ceil((length - shared) / (side - shared))
    return [
        round(step * (length - side) / (count - 1)) for step in range(count)
    ]


def _shared(side: int, overlap: float) -> int:
    return max(1, round(side * overlap))


def windows_of(size: Size, tile: Size, overlap: float) -> List[Window]:
    """Windows that cover an image, spread evenly.

    Args:
        size (Tuple[int, int]): Height and width of the image.
        tile (Tuple[int, int]): Height and width of a window; where the image
            is smaller, that of the image.
        overlap (float): Least share that neighbours have in common.

    Returns:
        List[Window]: All of one size, row by row.
    """
    height, width = min(tile[0], size[0]), min(tile[1], size[1])
    tops = _starts(size[0], height, _shared(height, overlap))
    lefts = _starts(size[1], width, _shared(width, overlap))
    return [Window(y, x, height, width) for y in tops for x in lefts]


def _ramp(side: int, start: int, length: int, overlap: float) -> np.ndarray:
    """Weights along one axis: a raised cosine at inner borders, else 1."""
    weights = np.ones(side)
    shared = _shared(side, overlap)
    rise = (1 - np.cos(np.pi * (np.arange(shared) + 0.5) / shared)) / 2
    if start > 0:
        weights[:shared] *= rise
    if start + side < length:
        weights[side - shared :] *= rise[::-1]
    return weights


def fit(source: np.ndarray, target: np.ndarray) -> Optional[Tuple[float, ...]]:
    """Scale and shift that bring a prediction closest to another.

    Args:
        source (np.ndarray): ``(H, W)``.
        target (np.ndarray): ``(H, W)``.

    Returns:
        Tuple[float, float] or None: Least-squares scale and shift; scale 1
        for a source without variation; None if the two run against each
        other.
    """
    x, y = source.astype(np.float64), target.astype(np.float64)
    mean_x, mean_y = x.mean(), y.mean()
    x, y = x - mean_x, y - mean_y
    variance = (x * x).mean()
    if variance <= (_FLAT * max(abs(mean_x), 1e-12)) ** 2:
        return 1.0, float(mean_y - mean_x)
    scale = float((x * y).mean() / variance)
    if scale <= 0:
        # a flat target says nothing about the scale but that it is 0
        if (y * y).mean() > (_FLAT * max(abs(mean_y), 1e-12)) ** 2:
            return None
        scale = 0.0
    return scale, float(mean_y - scale * mean_x)


class TileBlender:
    """Depth of windows, blended smoothly into that of an image.

    At the borders inside the image the weight of a window falls to 0 as a
    raised cosine over the overlap, so no seam is left.

    Args:
        size (Tuple[int, int]): Height and width of the image.
        overlap (float): As for :func:`windows_of`.
        whole (np.ndarray, optional): Prediction ``(H, W)`` for the whole
            image, to which each window is brought by a scale and a shift
            (least squares) first; where that fails its own values are
            taken. Defaults to None, windows as they are.

    Attributes:
        replaced (int): Windows in which ``whole`` was taken.
    """

    def __init__(
        self, size: Size, overlap: float, whole: Optional[np.ndarray] = None
    ) -> None:
        self._sum = np.zeros(size)
        self._weights = np.zeros(size)
        self._overlap = overlap
        self._whole = whole
        self.replaced = 0

    def add(self, window: Window, depth: np.ndarray) -> None:
        """Add the depth of a window.

        Args:
            window (Window): Where it lies.
            depth (np.ndarray): ``(height, width)``.
        """
        depth = depth.astype(np.float64)
        if self._whole is not None:
            target = self._whole[window.slices]
            found = fit(depth, target)
            if found is None:
                self.replaced += 1
                depth = target.astype(np.float64)
            else:
                depth = found[0] * depth + found[1]
        height, width = self._sum.shape
        rows = _ramp(window.height, window.top, height, self._overlap)
        columns = _ramp(window.width, window.left, width, self._overlap)
        weights = rows[:, None] * columns
        self._sum[window.slices] += depth * weights
        self._weights[window.slices] += weights

    def result(self) -> np.ndarray:
        """Blended depth.

        Returns:
            np.ndarray: ``(H, W)``, float32; no lower than the whole image's
            prediction where that was given.
        """
        depth = self._sum / self._weights
        if self._whole is not None:
            # inverse depth: alignment may push it below 0
            depth = np.maximum(depth, min(float(self._whole.min()), 0.0))
        return depth.astype(np.float32)


def predict_tiled(
    image: np.ndarray,
    predict: Callable[[List[np.ndarray]], List[np.ndarray]],
    tile: Size,
    overlap: float,
    batch_size: int = 1,
    whole: Optional[np.ndarray] = None,
) -> Tuple[np.ndarray, Dict[str, int]]:
    """Depth of an image from overlapping windows.

    Args:
        image (np.ndarray): ``(H, W, 3)``.
        predict (Callable): From windows ``(h, w, 3)`` of one size to their
            depth ``(h, w)``.
        tile (Tuple[int, int]): Height and width of a window.
        overlap (float): See :func:`windows_of`.
        batch_size (int): Windows for a call of ``predict``. Defaults to 1.
        whole (np.ndarray, optional): See :class:`TileBlender`. Defaults to
            None.

    Returns:
        Tuple[np.ndarray, dict]: Depth ``(H, W)``, float32, and ``windows``
        and ``replaced``, their numbers.
    """
    size = (image.shape[0], image.shape[1])
    windows = windows_of(size, tile, overlap)
    blender = TileBlender(size, overlap, whole)
    for start in range(0, len(windows), batch_size):
        part = windows[start : start + batch_size]
        parts = [np.ascontiguousarray(image[w.slices]) for w in part]
        for window, depth in zip(part, predict(parts)):
            blender.add(window, depth)
    counts = dict(windows=len(windows), replaced=blender.replaced)
    return blender.result(), counts
