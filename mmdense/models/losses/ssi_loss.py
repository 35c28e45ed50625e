"""Scale- and shift-invariant loss in inverse depth, with gradient matching."""

from typing import List, Optional, Tuple

import torch
from torch import Tensor

from mmdense.registry import MODELS

from .depth_gradient_loss import multi_scale_steps, per_image_mean
from .depth_loss import LARGEST, DepthLoss

# Below this many pixels a scale and a shift fit anything.
_FEWEST = 2
# Deviation, relative to the mean, of a map that is constant up to rounding.
_CONSTANT = 1e-6


def masked_median(values: Tensor, mask: Tensor) -> Tensor:
    """Median of each row, the mean of the two middle values if even.

    Args:
        values (Tensor): ``(B, N)``, finite where ``mask`` is set.
        mask (Tensor): bool, same shape.

    Returns:
        Tensor: ``(B,)``; 0 for a row without a value.
    """
    filled = torch.where(mask, values, torch.full_like(values, float('inf')))
    ordered = filled.sort(dim=1).values
    count = mask.sum(dim=1, keepdim=True)
    low = ((count - 1) // 2).clamp(min=0)
    middle = torch.cat((low, (count // 2).clamp(max=values.shape[1] - 1)), 1)
    pair = ordered.gather(1, middle)
    known = (count > 0).expand_as(pair)
    return torch.where(known, pair, torch.zeros_like(pair)).mean(dim=1)


def normalize_robustly(
    values: Tensor, mask: Tensor, min_scale: float
) -> Tensor:
    """Median to 0 and mean absolute deviation to 1, row by row.

    Args:
        values (Tensor): ``(B, N)``, finite where ``mask`` is set.
        mask (Tensor): bool, same shape.
        min_scale (float): Least deviation to divide by.

    Returns:
        Tensor: ``(B, N)``, 0 outside ``mask``.
    """
    shifted = values - masked_median(values, mask)[:, None]
    shifted = torch.where(mask, shifted, torch.zeros_like(values))
    count = mask.sum(dim=1).clamp(min=1)
    scale = shifted.abs().sum(dim=1) / count
    return shifted / scale.clamp(min=min_scale)[:, None]


def least_squares_fit(
    pred: Tensor, target: Tensor, mask: Tensor
) -> Tuple[Tensor, Tensor]:
    r"""Scale and shift of each row that minimise the squared error.

    :math:`\min_{s, t} \sum (s p + t - y)^2` over the masked values.

    Args:
        pred (Tensor): ``(B, N)``, finite where ``mask`` is set.
        target (Tensor): Same shape, finite where ``mask`` is set.
        mask (Tensor): bool, same shape.

    Returns:
        Tuple[Tensor, Tensor]: s and t, each ``(B,)``; both 0 where the row
        is constant or empty and the fit is not unique.
    """
    zero = torch.zeros_like(pred)
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)

    def mean(values: Tensor) -> Tensor:
        return torch.where(mask, values, zero).sum(1, keepdim=True) / count

    # centred: the normal equations themselves cancel in float32
    p_mean, y_mean = mean(pred), mean(target)
    p = torch.where(mask, pred - p_mean, zero)
    y = torch.where(mask, target - y_mean, zero)
    variance = mean(p.square())
    limit = (_CONSTANT * p_mean).square().clamp(min=torch.finfo(p.dtype).tiny)
    unique = variance.detach() > limit.detach()
    spread = torch.where(unique, variance, torch.ones_like(variance))
    scale = torch.where(unique, mean(p * y) / spread, torch.zeros_like(spread))
    shift = y_mean - scale * p_mean
    shift = torch.where(unique, shift, torch.zeros_like(shift))
    return scale[:, 0], shift[:, 0]


@MODELS.register_module()
class SSILoss(DepthLoss):
    r"""Scale- and shift-invariant loss for relative depth.

    Prediction :math:`d` and target :math:`d^*` are inverse depths of unknown
    scale and shift. With :math:`M` the valid pixels of an image, variant
    ``'trimmed'`` brings both to median 0 and mean absolute deviation 1,

    .. math::
        \hat d = (d - \text{median}(d)) / s(d), \quad
        s(d) = \text{mean} |d - \text{median}(d)|

    and takes the absolute residuals :math:`r = |\hat d - \hat d^*|` without
    the largest share ``trim``,

    .. math::
        L_{data} = \frac{1}{2M} \sum_{kept} r

    Variant ``'least_squares'`` fits :math:`\hat d = s d + t` to
    :math:`\hat d^* = d^*` and takes all of :math:`r^2` in place of the kept
    :math:`r`; it takes a prediction of the wrong sign (negative :math:`s`)
    for as good as one of the right sign. To both is added ``alpha`` times the
    gradient matching term

    .. math::
        L_{grad} = \frac{1}{M} \sum_k \sum
            |\partial_x R_k| + |\partial_y R_k|

    where :math:`R_k` is every :math:`2^k`-th pixel of :math:`\hat d -
    \hat d^*` along both axes and only pairs of valid pixels count. Gradients
    go through median, deviation, scale and shift.

    The terms are normalised over one of two groups. ``'image'``: as written,
    then the mean over the images of the batch. ``'batch'``: sums over all
    images divided by their valid pixels together, each :math:`R_k` by the
    valid pixels of its own scale. An image with fewer than two valid pixels
    contributes 0.

    Sources: [0] Ranftl et al., Towards Robust Monocular Depth Estimation,
    TPAMI 2020, section 5. [1] Ranftl et al., Vision Transformers for Dense
    Prediction, ICCV 2021, section 4.1.

    Args:
        variant (str): 'trimmed' or 'least_squares'. Defaults to 'trimmed'.
        trim (float): Share of the pixels left out by 'trimmed', in [0, 1);
            floor((1 - trim) M) are kept. Defaults to 0.2.
        alpha (float): Factor of the gradient term; 0 leaves it out, as for
            sparse ground truth. Defaults to 0.5.
        scales (int): Number of scales of the gradient term. Defaults to 4.
        target (str): What the ground truth holds: 'depth', of which the
            inverse is taken, or 'inverse'. Defaults to 'depth'.
        normalizer (str, optional): 'image' or 'batch'; None for 'image' with
            'trimmed' and 'batch' with 'least_squares'. Defaults to None.
        min_scale (float): Least :math:`s` to divide by. Defaults to 1e-6.
        loss_weight (float): Factor of the loss. Defaults to 1.0.
        loss_name (str): Name in the log. Defaults to 'loss_ssi'.

    Raises:
        ValueError: If an option is unknown or out of range.
    """

    VARIANTS = {'trimmed': 'image', 'least_squares': 'batch'}
    TARGETS = ('depth', 'inverse')
    NORMALIZERS = ('image', 'batch')

    def __init__(
        self,
        variant: str = 'trimmed',
        trim: float = 0.2,
        alpha: float = 0.5,
        scales: int = 4,
        target: str = 'depth',
        normalizer: Optional[str] = None,
        min_scale: float = 1e-6,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_ssi',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        choices = (
            ('variant', variant, tuple(self.VARIANTS)),
            ('target', target, self.TARGETS),
            ('normalizer', normalizer, (*self.NORMALIZERS, None)),
        )
        for option, given, known in choices:
            if given not in known:
                raise ValueError(
                    f'SSILoss: {option}={given!r}, choose from {known}'
                )
        if not 0 <= trim < 1:
            raise ValueError(f'SSILoss: trim={trim} is not in [0, 1)')
        if alpha < 0 or scales < 1 or min_scale <= 0:
            raise ValueError(
                f'SSILoss: needs alpha >= 0, scales >= 1 and min_scale > 0, '
                f'got {alpha}, {scales} and {min_scale}'
            )
        self.variant = variant
        self.trim = trim
        self.alpha = alpha
        self.scales = scales
        self.target = target
        self.normalizer = normalizer or self.VARIANTS[variant]
        self.min_scale = min_scale

    def compute(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor,
        image: Optional[Tensor],
    ) -> Tensor:
        """Unweighted loss, see :meth:`DepthLoss.compute`."""
        if self.target == 'depth':
            mask = mask & (target > 0)
            safe = torch.where(mask, target, torch.ones_like(target))
            target = safe.reciprocal().clamp(max=LARGEST)
        data, gradient = self.terms(pred, target, mask)
        return data if gradient is None else data + self.alpha * gradient

    def terms(
        self, pred: Tensor, target: Tensor, mask: Tensor
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """Both parts of the loss.

        Args:
            pred (Tensor): Inverse depth ``(B, 1, H, W)`` or ``(B, H, W)``.
            target (Tensor): True inverse depth, same shape.
            mask (Tensor): bool, same shape, the pixels that count.

        Returns:
            Tuple[Tensor, Tensor or None]: Data term and gradient term,
            scalars; None for the latter if ``alpha`` is 0.
        """
        height, width = pred.shape[-2:]
        mask = mask.reshape(len(pred), -1)
        mask = mask & (mask.sum(dim=1, keepdim=True) >= _FEWEST)
        zero = torch.zeros_like(mask, dtype=pred.dtype)
        pred = torch.where(mask, pred.reshape(len(pred), -1), zero)
        target = torch.where(mask, target.reshape(len(pred), -1), zero)
        residual = self._residual(pred, target, mask)
        errors = self._errors(residual, mask)
        data = self._reduce([errors], [mask]) / 2
        if self.alpha == 0:
            return data, None
        residual = residual.reshape(-1, height, width)
        mask = mask.reshape(-1, height, width)
        steps, masks = multi_scale_steps(residual, mask, self.scales)
        return data, self._reduce(steps, masks)

    def _residual(self, pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if self.variant == 'trimmed':
            pred = normalize_robustly(pred, mask, self.min_scale)
            return pred - normalize_robustly(target, mask, self.min_scale)
        scale, shift = least_squares_fit(pred, target, mask)
        fitted = scale[:, None] * pred + shift[:, None]
        return torch.where(mask, fitted - target, torch.zeros_like(pred))

    def _errors(self, residual: Tensor, mask: Tensor) -> Tensor:
        """What the data term adds up, ``(B, N)``; 0 where nothing counts."""
        if self.variant == 'least_squares':
            return residual.square()
        infinite = torch.full_like(residual, float('inf'))
        ordered = torch.where(mask, residual.abs(), infinite).sort(dim=1)
        # float64: the product has to come out whole for floor
        count = mask.sum(dim=1, keepdim=True).double()
        kept = ((1 - self.trim) * count).floor().long()
        rank = torch.arange(residual.shape[1], device=residual.device)
        zero = torch.zeros_like(residual)
        return torch.where(rank < kept, ordered.values, zero)

    def _reduce(self, parts: List[Tensor], masks: List[Tensor]) -> Tensor:
        """Normalised sum of parts ``(B, *)`` with masks of their pixels."""
        if self.normalizer == 'batch':
            values = [
                part.sum() / mask.sum().clamp(min=1)
                for part, mask in zip(parts, masks)
            ]
            return torch.stack(values).sum()
        return per_image_mean(parts, masks[0])
