"""Colours of depth maps and of their errors."""

from typing import Any, Optional, Sequence, Tuple

import numpy as np

from ..utils.errors import UserValueError
from .canvas import hatch

VALUES = ('depth', 'inverse')
#: Relative error at the ends of an error map: beyond it, delta1 is missed.
ERROR_LIMIT = 0.25
_INVALID = {'black': 0, 'grey': 128}


def as_map(depth: Any, what: str = 'depth') -> np.ndarray:
    """A depth map as a plain array.

    Args:
        depth (Any): Array or tensor ``(H, W)``, ``(1, H, W)`` or alike.
        what (str): Word for it in messages. Defaults to 'depth'.

    Returns:
        np.ndarray: float32 ``(H, W)``.

    Raises:
        UserValueError: If it is no single map.
    """
    if hasattr(depth, 'detach'):
        depth = depth.detach().float().cpu().numpy()
    array = np.asarray(depth, np.float32)
    if array.ndim < 2 or array.size != array.shape[-1] * array.shape[-2]:
        raise UserValueError(
            f'{what} of shape {array.shape} is no map; give (H, W) or '
            '(1, H, W), one image at a time.'
        )
    return array.reshape(array.shape[-2:])


def valid_depth(depth: np.ndarray, values: str = 'depth') -> np.ndarray:
    """Where a map says something.

    Args:
        depth (np.ndarray): Any shape.
        values (str): 'depth': positive and finite; 'inverse': finite, as
            relative inverse depth may be 0 or negative. Defaults to 'depth'.

    Returns:
        np.ndarray: bool of the same shape.

    Raises:
        UserValueError: If ``values`` is unknown.
    """
    if values not in VALUES:
        raise UserValueError(f'values={values!r}, choose from {VALUES}.')
    finite = np.isfinite(depth)
    return finite & (depth > 0) if values == 'depth' else finite


def depth_range(
    maps: Sequence[np.ndarray],
    percentiles: Tuple[float, float] = (2, 98),
    values: str = 'depth',
) -> Tuple[float, float]:
    """Ends of a colour scale that suits maps together.

    Args:
        maps (Sequence[np.ndarray]): ``(H, W)`` each.
        percentiles (Tuple[float, float]): Of the valid pixels, in [0, 100].
            Defaults to (2, 98).
        values (str): See :func:`valid_depth`. Defaults to 'depth'.

    Returns:
        Tuple[float, float]: Low < high; (0, 1) if no pixel is valid.
    """
    found = [m[valid_depth(m, values)].ravel() for m in maps]
    pixels = np.concatenate(found) if found else np.zeros(0)
    if not pixels.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(pixels, percentiles))
    if high - low < 1e-6 * max(abs(high), 1e-6):
        # one value only: in the middle
        half = max(abs(high) * 0.05, 1e-3)
        return low - half, high + half
    return low, high


def color_depth(
    depth: np.ndarray,
    low: Optional[float] = None,
    high: Optional[float] = None,
    name: str = 'turbo',
    values: str = 'depth',
    near: str = 'warm',
    percentiles: Tuple[float, float] = (2, 98),
    invalid: str = 'hatch',
) -> np.ndarray:
    """Paint a depth map.

    Args:
        depth (np.ndarray): ``(H, W)``; depth in metres, of which values <= 0
            and non-finite ones are invalid, or inverse depth, of which
            non-finite ones are.
        low (float, optional): Value of one end of the colours; None for a
            percentile. Defaults to None.
        high (float, optional): Value of the other end, > ``low``; None for a
            percentile. Defaults to None.
        name (str): matplotlib colour map. Defaults to ``'turbo'``.
        values (str): 'depth' or 'inverse' (large is near). Defaults to
            'depth'.
        near (str): 'warm' or 'cold', the end of the colour map that near
            things get ('warm' is its upper end). Defaults to 'warm'.
        percentiles (Tuple[float, float]): For ``low`` and ``high`` that are
            not given. Defaults to (2, 98).
        invalid (str): 'hatch' (grey stripes), 'grey' or 'black'. Defaults to
            'hatch'.

    Returns:
        np.ndarray: RGB image ``(H, W, 3)``, uint8.

    Raises:
        UserValueError: If a choice is unknown or the range is empty.
    """
    if near not in ('warm', 'cold'):
        raise UserValueError(f"near={near!r}, choose 'warm' or 'cold'.")
    valid = valid_depth(depth, values)
    if low is None or high is None:
        found = depth_range([depth], percentiles, values)
        low = found[0] if low is None else low
        high = found[1] if high is None else high
    if not low < high:
        raise UserValueError(
            f'colours from {low} to {high}: low has to be below high.'
        )
    share = (np.where(valid, depth, low) - low) / (high - low)
    if (values == 'depth') == (near == 'warm'):
        share = 1 - share
    return mark_invalid(paint(share, name), valid, invalid)


def paint(share: np.ndarray, name: str) -> np.ndarray:
    """Apply a colour map.

    Args:
        share (np.ndarray): ``(H, W)``; clipped to [0, 1].
        name (str): matplotlib colour map.

    Returns:
        np.ndarray: RGB image ``(H, W, 3)``, uint8.

    Raises:
        UserValueError: If there is no such colour map.
    """
    import matplotlib

    if name not in matplotlib.colormaps:
        raise UserValueError(
            f'There is no colour map {name!r} in matplotlib, as turbo, '
            'viridis, magma or gray.'
        )
    table = matplotlib.colormaps[name](np.arange(256) / 255)[:, :3]
    index = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return (table * 255).astype(np.uint8)[index]


def mark_invalid(
    rgb: np.ndarray, valid: np.ndarray, invalid: str = 'hatch'
) -> np.ndarray:
    """Replace the colours of invalid pixels.

    Args:
        rgb (np.ndarray): ``(H, W, 3)``, uint8.
        valid (np.ndarray): bool ``(H, W)``.
        invalid (str): 'hatch', 'grey' or 'black'. Defaults to 'hatch'.

    Returns:
        np.ndarray: RGB image ``(H, W, 3)``, uint8.

    Raises:
        UserValueError: If ``invalid`` is unknown.
    """
    if invalid == 'hatch':
        return np.where(valid[..., None], rgb, hatch(*valid.shape))
    if invalid not in _INVALID:
        raise UserValueError(
            f"invalid={invalid!r}, choose 'hatch', 'grey' or 'black'."
        )
    return np.where(valid[..., None], rgb, np.uint8(_INVALID[invalid]))


def relative_error(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Signed relative error of a prediction.

    Args:
        pred (np.ndarray): Depth ``(H, W)``, the unit of ``gt``.
        gt (np.ndarray): True depth ``(H, W)``, <= 0 or not finite where
            there is none.

    Returns:
        np.ndarray: (pred - gt) / gt, float32 ``(H, W)``; NaN where there is
        no truth or the prediction is not finite.

    Raises:
        UserValueError: If the sizes differ.
    """
    if pred.shape != gt.shape:
        raise UserValueError(
            f'prediction {pred.shape} and truth {gt.shape} differ in size.'
        )
    valid = valid_depth(gt) & np.isfinite(pred)
    error = np.full(gt.shape, np.nan, np.float32)
    error[valid] = (pred[valid] - gt[valid]) / gt[valid]
    return error


def error_map(
    pred: np.ndarray,
    gt: np.ndarray,
    kind: str = 'signed',
    limit: float = ERROR_LIMIT,
    invalid: str = 'hatch',
) -> np.ndarray:
    """Paint the relative error of a prediction.

    Args:
        pred (np.ndarray): Depth ``(H, W)`` in metres.
        gt (np.ndarray): True depth ``(H, W)`` in metres, 0 = none.
        kind (str): 'signed': blue is too near, red too far; 'absolute':
            bright is wrong. Defaults to 'signed'.
        limit (float): Relative error at the end of the colours. Defaults to
            0.25.
        invalid (str): How pixels without truth look, see
            :func:`color_depth`. Defaults to 'hatch'.

    Returns:
        np.ndarray: RGB image ``(H, W, 3)``, uint8.

    Raises:
        UserValueError: If the sizes differ or ``kind`` is unknown.
    """
    error = relative_error(pred, gt)
    valid = np.isfinite(error)
    rgb = paint_error(np.where(valid, error, 0), kind, limit)
    return mark_invalid(rgb, valid, invalid)


def paint_error(
    error: np.ndarray, kind: str = 'signed', limit: float = ERROR_LIMIT
) -> np.ndarray:
    """Colours of relative errors.

    Args:
        error (np.ndarray): Signed relative errors ``(H, W)``, finite.
        kind (str): See :func:`error_map`. Defaults to 'signed'.
        limit (float): See :func:`error_map`. Defaults to 0.25.

    Returns:
        np.ndarray: RGB image ``(H, W, 3)``, uint8.

    Raises:
        UserValueError: If ``kind`` is unknown or ``limit`` not positive.
    """
    if limit <= 0:
        raise UserValueError(f'limit={limit}: give a relative error above 0.')
    if kind == 'signed':
        return paint(0.5 + error / (2 * limit), 'coolwarm')
    if kind == 'absolute':
        return paint(np.abs(error) / limit, 'magma')
    raise UserValueError(f"kind={kind!r}, choose 'signed' or 'absolute'.")


def align_inverse(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Depth from relative inverse depth: least-squares scale and shift.

    Scale and shift are those that bring ``pred`` nearest to ``1 / gt``, as
    in MiDaS. For pictures; numbers come from ``mmdense.DepthMetric``.

    Args:
        pred (np.ndarray): Inverse relative depth ``(H, W)``.
        gt (np.ndarray): True depth ``(H, W)``, 0 = none.

    Returns:
        np.ndarray: Depth ``(H, W)``, float32, in the unit of ``gt`` and at
        most ten times its largest value; NaN if fewer than two pixels have
        a truth.

    Raises:
        UserValueError: If the sizes differ.
    """
    if pred.shape != gt.shape:
        raise UserValueError(
            f'prediction {pred.shape} and truth {gt.shape} differ in size.'
        )
    valid = valid_depth(gt) & np.isfinite(pred)
    if valid.sum() < 2:
        return np.full(gt.shape, np.nan, np.float32)
    x = pred[valid].astype(np.float64)
    y = 1 / gt[valid].astype(np.float64)
    columns = np.stack((x, np.ones_like(x)), axis=1)
    scale, shift = np.linalg.lstsq(columns, y, rcond=None)[0]
    inverse = scale * pred.astype(np.float64) + shift
    floor = 1 / (10 * float(gt[valid].max()))
    return (1 / np.maximum(inverse, floor)).astype(np.float32)
