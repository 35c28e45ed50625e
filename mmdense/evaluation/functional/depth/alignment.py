"""Scale, or scale and shift, between a prediction and the truth."""

from typing import NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

ALIGNMENTS = ('none', 'median', 'least_squares')
#: Smallest inverse depth that is inverted if there is no cap.
SMALLEST_INVERSE = 1e-8


class Alignment(NamedTuple):
    """``scale * prediction + shift``.

    Attributes:
        scale (float): Factor.
        shift (float): What is added, in the unit of the truth.
    """

    scale: float = 1.0
    shift: float = 0.0


def _median(values: Tensor) -> float:
    # numpy averages the two middle values of an even count, torch does not
    return float(np.median(values.detach().cpu().numpy()))


def fit_alignment(pred: Tensor, target: Tensor, method: str) -> Alignment:
    """Best scale, or scale and shift, of a prediction.

    Args:
        pred (Tensor): Values ``(n,)``; those that are not finite do not
            count.
        target (Tensor): True values ``(n,)``, finite.
        method (str): 'none'; 'median', the ratio of the medians;
            'least_squares', scale and shift with the smallest sum of squares
            (in float64; the scale is 0 for a constant prediction).

    Returns:
        Alignment: Scale and shift; (1, 0) if nothing can be fitted: no
        finite prediction, or a median of 0.

    Raises:
        ValueError: If ``method`` is unknown.
    """
    if method not in ALIGNMENTS:
        raise ValueError(f'alignment={method!r}, choose from {ALIGNMENTS}')
    if method == 'none':
        return Alignment()
    x, y = pred.double(), target.double()
    finite = torch.isfinite(x)
    if not bool(finite.all()):
        x, y = x[finite], y[finite]
    if x.numel() == 0:
        return Alignment()
    if method == 'median':
        middle = _median(x)
        return Alignment(_median(y) / middle) if middle else Alignment()
    # centred: the plain normal equations lose half of the digits
    mean_x, mean_y = x.mean(), y.mean()
    centred = x - mean_x
    square = float(centred @ centred)
    noise = torch.finfo(torch.float64).eps * float(x.abs().max())
    if square <= x.numel() * noise**2:
        return Alignment(0.0, float(mean_y))
    scale = float(centred @ (y - mean_y)) / square
    return Alignment(scale, float(mean_y) - scale * float(mean_x))


def align_depth(
    pred: Tensor,
    target: Tensor,
    method: str = 'none',
    space: str = 'depth',
    prediction: str = 'depth',
    cap: Optional[float] = None,
) -> Tuple[Tensor, Alignment, float]:
    """Depth from a prediction that is right up to scale (and shift).

    With ``space='inverse'`` the fit is between inverse depths; its result is
    cut below 1/``cap``, then inverted, so that no depth exceeds ``cap``.
    Values that are not finite do not take part in the fit; before it is
    applied NaN becomes 0, infinities the largest and smallest finite value.

    Scale and shift have no solution where the truth is constant, a single
    pixel for instance: any prediction would fit, with scale 0.

    Sources: [0] Ranftl et al., Towards Robust Monocular Depth Estimation,
    TPAMI 2020, section 6 (least squares in inverse depth, cap).

    Args:
        pred (Tensor): Prediction ``(n,)`` at the scored pixels.
        target (Tensor): True depth ``(n,)`` there, positive and finite.
        method (str): See :func:`fit_alignment`. Defaults to 'none'.
        space (str): 'depth' or 'inverse', where the fit happens. Defaults to
            'depth'.
        prediction (str): 'depth' or 'inverse', what ``pred`` is. Defaults to
            'depth'.
        cap (float, optional): Largest depth. None for 1e8. Defaults to None.

    Returns:
        Tuple[Tensor, Alignment, float]: Depth ``(n,)`` in the type of
        ``pred``, which may lie outside the range of the protocol; the fit;
        and the sum of absolute deviations in ``space``, divided by the range
        of the true values there (NaN without a fit or a range). All of them
        are NaN if there is no solution.
    """
    floor = SMALLEST_INVERSE if cap is None else 1 / cap
    values = pred
    if prediction != space and method != 'none':
        values = 1 / values.double().clamp(min=SMALLEST_INVERSE)
    if method == 'none':
        if prediction == 'inverse':
            values = 1 / values.clamp(min=floor)
        return values, Alignment(), float('nan')
    truth = target if space == 'depth' else 1 / target.double()
    span = float(truth.max() - truth.min()) if truth.numel() else 0.0
    if method == 'least_squares' and not span:
        nan = float('nan')
        return torch.full_like(pred, nan), Alignment(nan, nan), nan
    fit = fit_alignment(values, truth, method)
    values = values.double()
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        known = values[finite] if bool(finite.any()) else values.new_zeros(1)
        values = torch.nan_to_num(
            values, 0.0, float(known.max()), float(known.min())
        )
    aligned = values * fit.scale + fit.shift
    total = float((aligned - truth).abs().sum())
    deviation = total / span if span else float('nan')
    if space == 'inverse':
        aligned = 1 / aligned.clamp(min=floor)
    return aligned.to(pred.dtype), fit, deviation
