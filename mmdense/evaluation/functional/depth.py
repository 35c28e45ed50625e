"""Depth metrics as pure functions: sums per image, crops, cleaning.

An image is reduced to a short vector of sums (:func:`depth_sums`), from which
every metric follows (:func:`metrics_from_sums`). Sums of several images, or
of several processes, simply add up.
"""

import re
from typing import Dict, NamedTuple, Optional, Sequence, Tuple, Union

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
)

#: Metrics with a fixed name; ``silog@<lambda>`` exists for any lambda.
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

#: Metrics of which a larger value is better.
KB_SIZE = (352, 1216)
NYU_SIZE = (480, 640)

# Rows from/to and columns from/to, as shares of the map.
_FRACTIONS = {
    'garg': (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    'kitti_eigen': (0.3324324, 0.91351351, 0.03594771, 0.96405229),
}
CROPS = ('none', 'nyu_eigen', 'kitti_eigen', 'garg')


class Region(NamedTuple):
    """Rectangle of a map: rows ``top:bottom``, columns ``left:right``."""

    top: int
    bottom: int
    left: int
    right: int

    def of(self, values: Tensor) -> Tensor:
        """The rectangle of ``values`` with shape ``(..., H, W)``."""
        return values[..., self.top : self.bottom, self.left : self.right]

    @property
    def size(self) -> Tuple[int, int]:
        """Height and width, 0 where empty."""
        return (
            max(self.bottom - self.top, 0),
            max(self.right - self.left, 0),
        )


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
        if name not in METRIC_NAMES and silog_focus(name) is None:
            raise ValueError(
                f'unknown depth metric {name!r}; choose from '
                f"{METRIC_NAMES} or 'silog@<lambda>'"
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
    mask = torch.isfinite(depth) & (depth > min_depth)
    if max_depth is not None:
        mask &= depth < max_depth
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


def kb_region(shape: Sequence[int]) -> Region:
    """KITTI benchmark crop: 352x1216, at the bottom, centred.

    Args:
        shape (Sequence[int]): Height and width of the full map.

    Returns:
        Region: Rectangle in the full map.

    Raises:
        ValueError: If the map is smaller than the crop.
    """
    height, width = shape
    if height < KB_SIZE[0] or width < KB_SIZE[1]:
        raise ValueError(
            f'the KITTI benchmark crop needs maps of at least {KB_SIZE}, got '
            f'{(height, width)}; use full-size ground truth'
        )
    top, left = height - KB_SIZE[0], (width - KB_SIZE[1]) // 2
    return Region(top, height, left, left + KB_SIZE[1])


def crop_region(shape: Sequence[int], crop: str = 'none') -> Region:
    """Rectangle in which pixels are scored.

    Args:
        shape (Sequence[int]): Height and width of the map.
        crop (str): 'none'; 'nyu_eigen', the fixed rows 45:471 and columns
            41:601 of a 480x640 map (cut off at the border of smaller ones);
            'garg' and 'kitti_eigen', fixed shares of the map, truncated to
            whole pixels. Defaults to 'none'.

    Returns:
        Region: The rectangle.

    Raises:
        ValueError: If ``crop`` is unknown or nothing is left of the map.
    """
    height, width = int(shape[0]), int(shape[1])
    if crop == 'none':
        region = Region(0, height, 0, width)
    elif crop == 'nyu_eigen':
        region = Region(45, min(471, height), 41, min(601, width))
    elif crop in _FRACTIONS:
        rows, cols = _FRACTIONS[crop][:2], _FRACTIONS[crop][2:]
        region = Region(
            *(int(share * height) for share in rows),
            *(int(share * width) for share in cols),
        )
    else:
        raise ValueError(f'unknown crop {crop!r}, choose from {CROPS}')
    if 0 in region.size:
        raise ValueError(
            f'crop {crop!r} leaves nothing of a map of {(height, width)}'
        )
    return region


def evaluation_region(
    shape: Sequence[int],
    crop: str = 'none',
    kb_crop: bool = False,
    crop_on: str = 'kb',
) -> Region:
    """Scored rectangle of a full ground-truth map, with the KITTI cases.

    Args:
        shape (Sequence[int]): Height and width of the full map.
        crop (str): See :func:`crop_region`. Defaults to 'none'.
        kb_crop (bool): Whether predictions cover the KITTI benchmark crop
            only. Defaults to False.
        crop_on (str): 'kb': ``crop`` is laid on the benchmark crop
            (Monocular-Depth-Estimation-Toolbox, AdaBins). 'full': on the full
            map, then cut to the benchmark crop (BTS, DPT). Defaults to 'kb'.

    Returns:
        Region: Rectangle in the full map.
    """
    if crop_on not in ('kb', 'full'):
        raise ValueError(f"crop_on={crop_on!r}, choose 'kb' or 'full'")
    if not kb_crop:
        return crop_region(shape, crop)
    kb = kb_region(shape)
    if crop_on == 'kb':
        inner = crop_region(kb.size, crop)
        return Region(
            kb.top + inner.top,
            kb.top + inner.bottom,
            kb.left + inner.left,
            kb.left + inner.right,
        )
    inner = crop_region(shape, crop)
    return Region(
        max(kb.top, inner.top),
        min(kb.bottom, inner.bottom),
        max(kb.left, inner.left),
        min(kb.right, inner.right),
    )


def depth_sums(
    pred: Array, target: Array, mask: Optional[Array] = None
) -> np.ndarray:
    """Sums over the valid pixels of one image, in float64.

    Args:
        pred (Tensor or ndarray): Predicted depth in metres, positive and
            finite (see :func:`clean_prediction`), any shape.
        target (Tensor or ndarray): True depth, same shape.
        mask (Tensor or ndarray, optional): bool, same shape. None for all
            pixels. Defaults to None.

    Returns:
        ndarray: float64, one value per entry of :data:`SUM_NAMES`; all zero
        if no pixel is valid.

    Raises:
        ValueError: If shapes differ.
    """
    d, t = _tensor(pred), _tensor(target)
    if d.shape != t.shape:
        raise ValueError(
            f'prediction {tuple(d.shape)} and ground truth {tuple(t.shape)} '
            'differ in shape'
        )
    if mask is not None:
        valid = _tensor(mask).bool().to(d.device)
        t = t.to(d.device)
        d, t = d[valid], t[valid]
    d, t = d.double().flatten(), t.double().flatten()
    if d.numel() == 0:
        return np.zeros(len(SUM_NAMES))
    diff, g = d - t, d.log() - t.log()
    ratio = torch.maximum(d / t, t / d)
    sums = [
        torch.ones_like(d).sum(),
        (diff.abs() / t).sum(),
        (diff.square() / t).sum(),
        diff.square().sum(),
        g.square().sum(),
        g.sum(),
        (d.log10() - t.log10()).abs().sum(),
        *((ratio < 1.25**k).sum().double() for k in (1, 2, 3)),
    ]
    return torch.stack(sums).cpu().numpy()


def metrics_from_sums(
    sums: np.ndarray, names: Sequence[str] = METRIC_NAMES
) -> Dict[str, float]:
    r"""Metrics of the pixels behind a vector of sums.

    With d the prediction, t the target, g = ln d - ln t, E the mean:
    abs_rel E\|d-t\|/t; sq_rel E(d-t)^2/t; rmse sqrt E(d-t)^2 in metres;
    rmse_log sqrt E g^2; log10 E\|log10 d - log10 t\|; dk the share of pixels
    with max(d/t, t/d) < 1.25^k; silog@L 100 sqrt(E g^2 - L (E g)^2), of which
    silog is silog@1.0.

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
            inner = s['g_square'] / n - focus * (s['g'] / n) ** 2
            values[name] = 100 * max(inner, 0.0) ** 0.5
        elif name == 'rmse':
            values[name] = (s['square'] / n) ** 0.5
        elif name == 'rmse_log':
            values[name] = (s['g_square'] / n) ** 0.5
        else:
            values[name] = s[name] / n
    return {name: float(value) for name, value in values.items()}


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
            values of all pixels together. Images without a valid pixel do
            not count. Defaults to 'image'.

    Returns:
        Dict[str, float]: Value per name; NaN if no image is valid.
    """
    if reduction not in ('image', 'pixel'):
        raise ValueError(f"reduction={reduction!r}, choose 'image' or 'pixel'")
    per_image = np.asarray(per_image, np.float64).reshape(-1, len(SUM_NAMES))
    kept = per_image[per_image[:, 0] > 0]
    if reduction == 'pixel' or len(kept) == 0:
        return metrics_from_sums(kept.sum(axis=0), names)
    rows = [metrics_from_sums(row, names) for row in kept]
    return {
        name: float(np.mean([row[name] for row in rows])) for name in names
    }
