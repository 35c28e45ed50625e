"""Image, true depth, predictions and their errors in one picture."""

from typing import Any, Dict, List, Mapping, Optional, Tuple

import cv2
import numpy as np

from ..utils.errors import UserValueError
from . import canvas
from .depth import (
    ERROR_LIMIT,
    align_inverse,
    as_map,
    color_depth,
    depth_range,
    error_map,
    paint_error,
    relative_error,
    valid_depth,
)

# pixels below which a tile is enlarged, so that its text can be read
_LEAST = 200


def _resized(
    array: np.ndarray, size: Tuple[int, int], smooth: bool = True
) -> np.ndarray:
    """Resize to height and width; maps never smoothly."""
    if array.shape[:2] == size:
        return array
    way = cv2.INTER_NEAREST
    if smooth:
        shrinks = size[0] < array.shape[0]
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(array, size[::-1], interpolation=way)


def depth_legend(
    height: int,
    low: float,
    high: float,
    unit: str = 'm',
    size: int = 13,
    **colors: Any,
) -> np.ndarray:
    """The colour bar of a depth map.

    Args:
        height (int): Rows.
        low (float): As given to ``color_depth``.
        high (float): As given to ``color_depth``.
        unit (str): Written above the bar: 'm' or 'relative'. Defaults to
            'm'.
        size (int): Size of the font in pixels. Defaults to 13.
        **colors (Any): ``name``, ``values`` and ``near`` of ``color_depth``.

    Returns:
        np.ndarray: RGB image ``(height, W, 3)``, uint8.
    """

    def paint(values: np.ndarray) -> np.ndarray:
        # 0 is a number here, not "no measurement"
        values = np.maximum(values, np.finfo(np.float32).tiny)
        return color_depth(values, low, high, **colors)

    def paint_inverse(values: np.ndarray) -> np.ndarray:
        return color_depth(values, low, high, **colors)

    inverse = colors.get('values') == 'inverse'
    chosen = paint_inverse if inverse else paint
    return canvas.legend(height, low, high, chosen, unit, size)


def _percent(value: float) -> str:
    return f'{100 * value:+.3g} %' if value else '0'


def _absolute_percent(value: float) -> str:
    return f'{100 * value:.3g} %'


def error_legend(
    height: int,
    kind: str = 'signed',
    limit: float = ERROR_LIMIT,
    size: int = 13,
) -> np.ndarray:
    """The colour bar of an error map.

    Args:
        height (int): Rows.
        kind (str): See ``error_map``. Defaults to 'signed'.
        limit (float): See ``error_map``. Defaults to 0.25.
        size (int): Size of the font in pixels. Defaults to 13.

    Returns:
        np.ndarray: RGB image ``(height, W, 3)``, uint8.
    """
    signed = kind == 'signed'
    return canvas.legend(
        height,
        -limit if signed else 0.0,
        limit,
        lambda values: paint_error(values, kind, limit),
        'too far' if signed else 'error',
        size,
        _percent if signed else _absolute_percent,
    )


def error_text(pred: np.ndarray, gt: np.ndarray) -> str:
    """Errors of one image in words.

    Args:
        pred (np.ndarray): Depth ``(H, W)`` in metres.
        gt (np.ndarray): True depth ``(H, W)`` in metres, 0 = none.

    Returns:
        str: AbsRel and delta1 over all pixels with a truth, without the crop
        and range of a protocol; 'no truth' if there is none.
    """
    error = relative_error(pred, gt)
    found = error[np.isfinite(error)].astype(np.float64)
    if not found.size:
        return 'no truth'
    # 1 + error is the ratio of prediction and truth
    close = (1 + found > 1 / 1.25) & (1 + found < 1.25)
    return f'AbsRel {np.abs(found).mean():.3f}, δ1 {close.mean():.3f}'


def depth_panel(
    image: np.ndarray,
    pred: Any = None,
    gt: Any = None,
    values: str = 'depth',
    low: Optional[float] = None,
    high: Optional[float] = None,
    unit: str = 'm',
    name: str = 'turbo',
    near: str = 'warm',
    error: Optional[str] = 'signed',
    error_limit: float = ERROR_LIMIT,
    columns: Optional[int] = None,
    height: Optional[int] = None,
    caption: str = '',
    overlay: bool = False,
) -> np.ndarray:
    """Image, truth, predictions and errors side by side, with legends.

    Truth and predictions of metric depth share one scale of colours, so that
    equal colours are equal depths. Pixels without depth are hatched.
    Relative inverse depth has a scale of its own; its error is that after
    least-squares alignment to the inverse truth.

    Args:
        image (np.ndarray): RGB ``(h, w, 3)``, uint8; resized to the maps.
        pred (Any, optional): Map ``(H, W)`` or ``(1, H, W)``, array or
            tensor; a mapping from titles to maps for several. Defaults to
            None.
        gt (Any, optional): True depth in metres, 0 = none. Predictions are
            resized to it. Defaults to None.
        values (str): What ``pred`` holds: 'depth' or 'inverse'. Defaults to
            'depth'.
        low (float, optional): Lower end of the colours of depth, in
            ``unit``; None for the 2nd percentile of the truth, or of the
            predictions. Predictions with ``values='inverse'`` take no part
            in it: their colours always span their own percentiles. Defaults
            to None.
        high (float, optional): Upper end, alike; None for the 98th
            percentile. Defaults to None.
        unit (str): Unit of depth in the legend. Defaults to 'm'.
        name (str): matplotlib colour map. Defaults to 'turbo'.
        near (str): 'warm' or 'cold', colours of near things. Defaults to
            'warm'.
        error (str, optional): 'signed' or 'absolute' error maps, None for
            none. Defaults to 'signed'.
        error_limit (float): Relative error at the end of the colours.
            Defaults to 0.25.
        columns (int, optional): Tiles in a row; None to choose. Defaults to
            None.
        height (int, optional): Height of the maps in the picture; None for
            theirs, but at least 200. Defaults to None.
        caption (str): A line above all. Defaults to ''.
        overlay (bool): Lay the truth over the image, too, which shows
            whether their edges agree. Defaults to False.

    Returns:
        np.ndarray: RGB image, uint8.

    Raises:
        UserValueError: If there is nothing to show or a shape is wrong.
    """
    maps = _named(pred)
    truth = None if gt is None else as_map(gt, 'gt')
    if truth is None and not maps:
        raise UserValueError('depth_panel: give pred or gt, or both.')
    first = truth if truth is not None else next(iter(maps.values()))
    size = (first.shape[0], first.shape[1])
    maps = {key: _resized(m, size) for key, m in maps.items()}
    metric = [truth] if truth is not None else []
    if values == 'depth' and truth is None:
        metric += list(maps.values())
    found = depth_range(metric)
    low = found[0] if low is None else low
    high = found[1] if high is None else high
    board = _Board(size, height)
    look: Dict[str, Any] = dict(name=name, near=near)
    image = _resized(np.asarray(image), size)
    board.add('image', image)
    if truth is not None:
        board.add_depth('truth', truth, low, high, unit, look)
        if overlay:
            board.add('overlay', _overlay(image, truth, low, high, look))
    for key, one in maps.items():
        aligned = one
        if values == 'depth':
            board.add_depth(key, one, low, high, unit, look)
        else:
            ends = depth_range([one], values='inverse')
            inverse = dict(look, values='inverse')
            board.add_depth(key, one, *ends, 'relative', inverse)
            if truth is not None:
                aligned = align_inverse(one, truth)
        if truth is not None and error is not None:
            text = error_text(aligned, truth)
            text += ' (aligned)' if values == 'inverse' else ''
            picture = error_map(aligned, truth, error, error_limit)
            bar = error_legend(board.rows, error, error_limit, board.font)
            board.add(text, picture, bar)
    return board.finish(columns or _columns(board, len(maps)), caption)


def _overlay(
    image: np.ndarray,
    depth: np.ndarray,
    low: float,
    high: float,
    look: Dict[str, Any],
) -> np.ndarray:
    """The grey image under the colours of depth, bare where none is."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    base = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    mixed = 0.55 * base + 0.45 * color_depth(depth, low, high, **look)
    kept = np.where(valid_depth(depth)[..., None], mixed, base)
    return kept.astype(np.uint8)


def _named(pred: Any) -> Dict[str, np.ndarray]:
    if pred is None:
        return {}
    if isinstance(pred, Mapping):
        return {str(k): as_map(m, f'pred[{k!r}]') for k, m in pred.items()}
    return {'prediction': as_map(pred, 'pred')}


def _columns(board: '_Board', predictions: int) -> int:
    """All of one prediction in a row if it is not wide, else pairs."""
    number = len(board.tiles)
    if board.size[1] > 1.8 * board.size[0]:
        return 1 if number < 4 else 2
    if predictions > 1:
        return 2 if number > 2 + predictions else min(number, 4)
    return number


class _Board:
    """Tiles of one size, each with a title above and a legend beside."""

    def __init__(self, size: Tuple[int, int], height: Optional[int]) -> None:
        rows = height or max(size[0], _LEAST)
        self.size = size
        self.rows = rows
        self.cols = max(int(round(size[1] * rows / size[0])), 1)
        self.font = int(np.clip(rows // 16, 12, 28))
        self.tiles: List[np.ndarray] = []

    def add(
        self,
        title: str,
        picture: np.ndarray,
        legend: Optional[np.ndarray] = None,
        smooth: bool = True,
    ) -> None:
        body = _resized(picture, (self.rows, self.cols), smooth)
        head = canvas.title(title, self.cols, self.font)
        tile = np.concatenate((head, body))
        if legend is not None:
            bar = np.full((tile.shape[0], legend.shape[1], 3), 255, np.uint8)
            bar[head.shape[0] :] = legend
            tile = canvas.beside(tile, bar)
        self.tiles.append(tile)

    def add_depth(
        self,
        title: str,
        depth: np.ndarray,
        low: float,
        high: float,
        unit: str,
        look: Dict[str, Any],
    ) -> None:
        # painted at the size shown, for stripes of one width
        shown = _resized(depth, (self.rows, self.cols), smooth=False)
        bar = depth_legend(self.rows, low, high, unit, self.font, **look)
        self.add(title, color_depth(shown, low, high, **look), bar)

    def finish(self, columns: int, caption: str) -> np.ndarray:
        panel = canvas.grid(self.tiles, columns)
        if caption:
            head = canvas.title(caption, panel.shape[1], self.font)
            panel = np.concatenate((head, panel))
        return panel
