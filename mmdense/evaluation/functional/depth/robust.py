"""Scale and shift that outliers move little."""

import torch
from torch import Tensor

from .alignment import Alignment

# deviation, relative to the largest value, of a constant up to rounding
_CONSTANT = 1e-6


def _centre_and_spread(values: Tensor) -> Tensor:
    # the mean of the two middle values of an even count
    ordered = values.sort().values
    count = len(ordered)
    centre = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return torch.stack((centre, (values - centre).abs().mean()))


def robust_alignment(pred: Tensor, target: Tensor) -> Alignment:
    r"""Scale and shift that give a prediction the target's position.

    Median and mean absolute deviation from it become those of the target;
    which pixel is which plays no part:

    .. math::
        a = s(y) / s(x), \quad b = m(y) - a m(x), \quad
        s(x) = \text{mean} |x - m(x)|

    Sources: [0] Ranftl et al., Towards Robust Monocular Depth Estimation,
    TPAMI 2020, section 5.

    Args:
        pred (Tensor): Values ``(n,)``, finite, n >= 1.
        target (Tensor): True values ``(n,)``, finite.

    Returns:
        Alignment: Scale, at least 0, and shift, in float64; a constant
        prediction has the scale 0 and the shift :math:`m(y)`.
    """
    x, y = pred.double(), target.double()
    x_centre, x_spread = _centre_and_spread(x).tolist()
    y_centre, y_spread = _centre_and_spread(y).tolist()
    if x_spread <= _CONSTANT * float(x.abs().max()):
        return Alignment(0.0, y_centre)
    scale = y_spread / x_spread
    return Alignment(scale, y_centre - scale * x_centre)
