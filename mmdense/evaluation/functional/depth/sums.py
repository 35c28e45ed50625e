"""Sums over the pixels of an image, and metrics from sums."""

import math
import re
from typing import Dict, Optional, Sequence, Union

import numpy as np
import torch
from torch import Tensor

Array = Union[Tensor, np.ndarray]

#: Meaning of the entries of :func:`depth_sums`; g is ln(pred) - ln(target).
SUM_NAMES = (
    'pixels',
    'abs_rel',
    'sq_rel',
    'square',
    'g_square',
    'g',
    'log10',
    'd1',
    'd2',
    'd3',
    'mae',
    'deviation',
)

#: Metrics reported if none are chosen.
METRIC_NAMES = (
    'abs_rel',
    'sq_rel',
    'rmse',
    'rmse_log',
    'log10',
    'd1',
    'd2',
    'd3',
    'silog',
)
#: Further ones with a fixed name; ``silog@<lambda>`` exists for any lambda.
EXTRA_METRIC_NAMES = (
    'mae',
    'd1_error',
    'abs_rel_dev_after_affine_alignment',
)
_SUM_OF = {'abs_rel_dev_after_affine_alignment': 'deviation'}
# depth beyond which float32 sums of squares are not trusted
_HUGE = 1e15


def silog_focus(name: str) -> Optional[float]:
    """Lambda of a SILog variant.

    Args:
        name (str): 'silog' (lambda 1), 'silog@1.0', 'silog@0.5', ...

    Returns:
        float or None: Lambda, None if ``name`` is no SILog metric.

    Raises:
        ValueError: If lambda is not a number in [0, 1].
    """
    if name == 'silog':
        return 1.0
    match = re.fullmatch(r'silog@(.+)', name)
    if match is None:
        return None
    try:
        focus = float(match.group(1))
    except ValueError:
        focus = float('nan')
    if not 0 <= focus <= 1:
        raise ValueError(
            f'metric {name!r}: what follows the @ has to be a number in '
            "[0, 1], as in 'silog@0.5'"
        )
    return focus


def check_metric_names(names: Sequence[str]) -> None:
    """Raise ValueError if a name is not a depth metric.

    Args:
        names (Sequence[str]): Names to check.
    """
    for name in names:
        known = METRIC_NAMES + EXTRA_METRIC_NAMES
        if name not in known and silog_focus(name) is None:
            raise ValueError(
                f'unknown depth metric {name!r}; choose from '
                f"{known} or 'silog@<lambda>'"
            )


def _tensor(values: Array) -> Tensor:
    if isinstance(values, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(values))
    return values.detach()


def valid_pixels(
    target: Array, min_depth: float = 1e-3, max_depth: Optional[float] = None
) -> Tensor:
    """Pixels with ground truth strictly inside the evaluated range.

    Args:
        target (Tensor or ndarray): Depth in metres, any shape.
        min_depth (float): Lower bound, excluded. Defaults to 1e-3.
        max_depth (float, optional): Upper bound, excluded; None for no bound.
            Defaults to None.

    Returns:
        Tensor: bool, same shape. NaN and infinite targets are False.
    """
    depth = _tensor(target)
    # comparisons with NaN are False
    mask = depth > min_depth
    mask &= depth < (float('inf') if max_depth is None else max_depth)
    return mask


def clean_prediction(
    pred: Array, min_depth: float = 1e-3, max_depth: Optional[float] = None
) -> Tensor:
    """Clamp a prediction to the range; NaN and infinity go to its ends.

    Args:
        pred (Tensor or ndarray): Predicted depth in metres, any shape.
        min_depth (float): Lower end, also the value for NaN and -infinity.
            Defaults to 1e-3.
        max_depth (float, optional): Upper end, also the value for +infinity.
            None for the largest finite number. Defaults to None.

    Returns:
        Tensor: Same shape, finite.
    """
    depth = _tensor(pred)
    if not depth.is_floating_point():
        depth = depth.float()
    top = torch.finfo(depth.dtype).max if max_depth is None else max_depth
    depth = torch.nan_to_num(depth, min_depth, top, min_depth)
    return depth.clamp(min_depth, top)


def chosen(mask: Tensor) -> Optional[Tensor]:
    """Flat indices of the pixels of a mask.

    Args:
        mask (Tensor): bool, any shape.

    Returns:
        Tensor or None: int64 ``(n,)``; None for all pixels.
    """
    if mask.device.type != 'cpu':
        return mask.reshape(-1).nonzero().squeeze(1)
    # three times as fast as nonzero() of torch
    index = np.flatnonzero(mask.numpy())
    return None if len(index) == mask.numel() else torch.from_numpy(index)


def depth_sums(
    pred: Array, target: Array, mask: Optional[Array] = None
) -> np.ndarray:
    """Sums over the valid pixels of one image.

    Single numbers are computed in float32 (in float64 if an argument is, or
    values are huge). Sums of g are formed around its mean: plain float32
    sums would leave nothing of a small silog.

    Args:
        pred (Tensor or ndarray): Predicted depth in metres, positive and
            finite (see :func:`clean_prediction`), any shape.
        target (Tensor or ndarray): True depth, same shape.
        mask (Tensor or ndarray, optional): bool, same shape. None for all
            pixels. Defaults to None.

    Returns:
        ndarray: float64, one value per entry of :data:`SUM_NAMES`; all zero
        if no pixel is valid. ``deviation`` is NaN: it belongs to an
        alignment (:func:`~.alignment.align_depth`).

    Raises:
        ValueError: If shapes differ.
    """
    d, t = _tensor(pred), _tensor(target)
    if d.shape != t.shape:
        raise ValueError(
            f'prediction {tuple(d.shape)} and ground truth {tuple(t.shape)} '
            'differ in shape'
        )
    d, t = d.reshape(-1), t.reshape(-1).to(d.device)
    if mask is not None:
        index = chosen(_tensor(mask).bool().to(d.device))
        if index is not None:
            d, t = d.index_select(0, index), t.index_select(0, index)
    n = d.numel()
    if n == 0:
        return np.zeros(len(SUM_NAMES))
    if torch.float64 in (d.dtype, t.dtype) or float(d.max()) > _HUGE:
        d, t = d.double(), t.double()
    else:
        d, t = d.float(), t.float()
    ratio = d / t
    g = ratio.log()
    mean = float(g.mean())
    centred = g - mean
    diff = d - t
    relative = diff / t
    # of max(d/t, t/d)
    larger = torch.maximum(ratio, t / d)
    absolute = diff.abs()
    around, square = torch.stack(
        [centred.sum(), centred.square_().sum()]
    ).tolist()
    sums = torch.stack(
        [
            relative.abs().sum(),
            (relative.mul_(diff)).sum(),
            diff.square_().sum(),
            g.abs_().sum(),
            absolute.sum(),
        ]
    ).tolist()
    abs_rel, sq_rel, squares, abs_g, mae = sums
    d1, d2, d3 = torch.stack(
        [(larger < 1.25**k).count_nonzero() for k in (1, 2, 3)]
    ).tolist()
    return np.array(
        [
            n,
            abs_rel,
            sq_rel,
            squares,
            square + 2 * mean * around + n * mean**2,
            around + n * mean,
            abs_g / math.log(10),
            d1,
            d2,
            d3,
            mae,
            math.nan,
        ]
    )


def metrics_from_sums(
    sums: np.ndarray, names: Sequence[str] = METRIC_NAMES
) -> Dict[str, float]:
    r"""Metrics of the pixels behind a vector of sums.

    With d the prediction, t the target, g = ln d - ln t, E the mean:
    abs_rel E\|d-t\|/t; sq_rel E(d-t)^2/t; rmse sqrt E(d-t)^2 in metres;
    rmse_log sqrt E g^2; log10 E\|log10 d - log10 t\|; dk the share of pixels
    with max(d/t, t/d) < 1.25^k; silog@L 100 sqrt(E g^2 - L (E g)^2), of which
    silog is silog@1.0. Further ones: mae E\|d-t\|; d1_error 100 (1 - d1), a
    percentage; abs_rel_dev_after_affine_alignment, the mean absolute
    deviation in the space of the alignment, divided by the range of the true
    values of the image there (NaN without an alignment). The range is a
    choice: the papers that report such a deviation do not define its unit.

    Args:
        sums (ndarray): From :func:`depth_sums`, or a sum of several.
        names (Sequence[str]): Metrics to compute. Defaults to
            :data:`METRIC_NAMES`.

    Returns:
        Dict[str, float]: Value per name; NaN for all if there is no pixel.
    """
    check_metric_names(names)
    s = dict(zip(SUM_NAMES, np.asarray(sums, dtype=np.float64)))
    n = s['pixels']
    if n == 0:
        return {name: float('nan') for name in names}
    values = {}
    for name in names:
        focus = silog_focus(name)
        if focus is not None:
            # not negative beyond rounding
            inner = s['g_square'] / n - focus * (s['g'] / n) ** 2
            values[name] = 100 * max(inner, 0.0) ** 0.5
        elif name == 'rmse':
            values[name] = (s['square'] / n) ** 0.5
        elif name == 'rmse_log':
            values[name] = (s['g_square'] / n) ** 0.5
        elif name == 'd1_error':
            values[name] = 100 * (1 - s['d1'] / n)
        else:
            values[name] = s[_SUM_OF.get(name, name)] / n
    return {name: float(value) for name, value in values.items()}


def is_scored(per_image: np.ndarray) -> np.ndarray:
    """Images that count.

    Args:
        per_image (ndarray): ``(N, M)``, M at least 2, rows that begin with
            the sums of :func:`depth_sums`.

    Returns:
        ndarray: bool ``(N,)``; False without a valid pixel, and where the
        sums are NaN: no alignment has a solution.
    """
    scored: np.ndarray = (per_image[:, 0] > 0) & ~np.isnan(per_image[:, 1])
    return scored


def reduce_sums(
    per_image: np.ndarray,
    names: Sequence[str] = METRIC_NAMES,
    reduction: str = 'image',
) -> Dict[str, float]:
    """Metrics of a set of images.

    Args:
        per_image (ndarray): ``(N, len(SUM_NAMES))``, one row per image.
        names (Sequence[str]): Metrics to compute. Defaults to
            :data:`METRIC_NAMES`.
        reduction (str): 'image': mean of the per-image values. 'pixel':
            values of all pixels together. Defaults to 'image'. Images count
            as :func:`is_scored` says.

    Returns:
        Dict[str, float]: Value per name; NaN if no image is valid.
    """
    if reduction not in ('image', 'pixel'):
        raise ValueError(f"reduction={reduction!r}, choose 'image' or 'pixel'")
    per_image = np.asarray(per_image, np.float64).reshape(-1, len(SUM_NAMES))
    kept = per_image[is_scored(per_image)]
    if reduction == 'pixel' or len(kept) == 0:
        return metrics_from_sums(kept.sum(axis=0), names)
    rows = [metrics_from_sums(row, names) for row in kept]
    return {
        name: float(np.mean([row[name] for row in rows])) for name in names
    }
