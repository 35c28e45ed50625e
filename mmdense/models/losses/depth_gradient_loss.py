"""Gradient losses for depth: edge-aware smoothness, matching."""

from typing import List, Optional, Tuple

import torch
from torch import Tensor

from mmdense.registry import MODELS

from .depth_loss import DepthLoss, masked_mean

# added to depths in metres before the logarithm, as by SILogLoss 'eigen'
_EPS = 1e-6


def forward_differences(values: Tensor) -> Tuple[Tensor, Tensor]:
    """Right minus left and lower minus upper neighbour.

    Args:
        values (Tensor): ``(..., H, W)``.

    Returns:
        Tuple[Tensor, Tensor]: ``(..., H, W - 1)`` and ``(..., H - 1, W)``.
    """
    return (
        values[..., :, 1:] - values[..., :, :-1],
        values[..., 1:, :] - values[..., :-1, :],
    )


def neighbour_masks(mask: Tensor) -> Tuple[Tensor, Tensor]:
    """Pairs of neighbours of which both are valid.

    Args:
        mask (Tensor): bool, ``(..., H, W)``.

    Returns:
        Tuple[Tensor, Tensor]: bool, ``(..., H, W - 1)`` and
        ``(..., H - 1, W)``.
    """
    return (
        mask[..., :, 1:] & mask[..., :, :-1],
        mask[..., 1:, :] & mask[..., :-1, :],
    )


def multi_scale_steps(
    residual: Tensor, mask: Tensor, scales: int
) -> Tuple[List[Tensor], List[Tensor]]:
    r"""Absolute steps of a residual between neighbours, on several grids.

    Scale k has every :math:`2^k`-th row and column, from the first.

    Args:
        residual (Tensor): ``(B, H, W)``, finite where ``mask`` is set.
        mask (Tensor): bool, same shape, the pixels that count.
        scales (int): Number of grids.

    Returns:
        Tuple[List[Tensor], List[Tensor]]: For each scale :math:`|\partial_x
        R_k|` and :math:`|\partial_y R_k|` in one row of an image, ``(B,
        *)``, 0 where a pixel of the pair does not count; and its mask ``(B,
        *)``.
    """
    steps, masks = [], []
    for scale in range(scales):
        stride = 2**scale
        coarse = residual[:, ::stride, ::stride]
        known = mask[:, ::stride, ::stride]
        pairs = zip(forward_differences(coarse), neighbour_masks(known))
        # 0 outside the pairs, so that |0| gives no gradient there
        parts = [
            torch.where(pair, d, torch.zeros_like(d)).abs().flatten(1)
            for d, pair in pairs
        ]
        steps.append(torch.cat(parts, dim=1))
        masks.append(known.flatten(1))
    return steps, masks


def per_image_mean(parts: List[Tensor], mask: Tensor) -> Tensor:
    """Sum of all parts of an image by its valid pixels, mean over images.

    Args:
        parts (List[Tensor]): ``(B, *)`` each, 0 where nothing counts.
        mask (Tensor): bool ``(B, N)``, the pixels to divide by.

    Returns:
        Tensor: A scalar; images without a valid pixel count as 0.
    """
    sums = torch.stack([part.sum(dim=1) for part in parts]).sum(dim=0)
    return (sums / mask.sum(dim=1).clamp(min=1)).mean()


@MODELS.register_module()
class DepthGradientLoss(DepthLoss):
    r"""Depth gradients, in one of three readings.

    ``'edge_aware'``: smoothness guided by the image :math:`I` (mean of the
    colour channels, in [0, 1]), over all pixels, measured or not:

    .. math::
        \text{mean}(e^{-|\partial_x I|} (\partial_x d)^2)
        + \text{mean}(e^{-|\partial_y I|} (\partial_y d)^2)

    ``'match_gt'``: gradients equal to those of the target :math:`t`, over the
    pairs of neighbours that are both valid:

    .. math::
        \text{mean}((\partial_x d - \partial_x t)^2)
        + \text{mean}((\partial_y d - \partial_y t)^2)

    :math:`\partial` are forward differences in metres per pixel; each axis is
    averaged over its own pairs.

    ``'multi_scale'``: absolute steps of the logarithmic residual :math:`R =
    \ln(d + 10^{-6}) - \ln(t + 10^{-6})` of an image with :math:`M` valid
    pixels,

    .. math::
        \frac{1}{M} \sum_k \sum |\partial_x R_k| + |\partial_y R_k|

    with :math:`R_k` every :math:`2^k`-th pixel along both axes and pairs of
    valid pixels alone, then the mean over images: the term of
    :class:`SSILoss` and of [1]. Logarithms, because the data term it belongs
    to ([2], :class:`SILogLoss` 'eigen_squared') is of this residual: both are
    without unit and blind to the scale of an image, so that one factor suits
    near and far. For dense ground truth; in sparse one few pixels have a
    valid neighbour.

    A batch without one valid pixel gives 0 in all modes.

    Sources: [0] Heise et al., PM-Huber, 2013 (image-guided regularisation).
    [1] Li and Snavely, MegaDepth, CVPR 2018 (multi-scale gradients of log
    depth). [2] Ranftl et al., Vision Transformers for Dense Prediction,
    ICCV 2021, section 4.1 (fine-tuning to metric depth).

    Args:
        mode (str): 'edge_aware', 'match_gt' or 'multi_scale'. Defaults to
            'edge_aware'.
        loss_weight (float): Factor of the loss. Defaults to 0.1.
        loss_name (str): Name in the log. Defaults to 'loss_gradient'.
        scales (int): Number of scales of 'multi_scale'. Defaults to 4.

    Raises:
        ValueError: If ``mode`` is unknown or ``scales`` is below 1.
    """

    MODES = ('edge_aware', 'match_gt', 'multi_scale')

    def __init__(
        self,
        mode: str = 'edge_aware',
        loss_weight: float = 0.1,
        loss_name: str = 'loss_gradient',
        scales: int = 4,
    ) -> None:
        super().__init__(loss_weight, loss_name)
        if mode not in self.MODES:
            raise ValueError(
                f'DepthGradientLoss: mode={mode!r}, choose from {self.MODES}'
            )
        if scales < 1:
            raise ValueError(f'DepthGradientLoss: scales={scales} is below 1')
        self.mode = mode
        self.scales = scales
        self.needs_image = mode == 'edge_aware'

    def compute(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor,
        image: Optional[Tensor],
    ) -> Tensor:
        """Unweighted loss, see :meth:`DepthLoss.compute`."""
        if self.mode == 'edge_aware':
            assert image is not None
            return self._edge_aware(pred, mask, image)
        if self.mode == 'multi_scale':
            return self._multi_scale(pred, target, mask)
        residual = torch.where(mask, pred - target, torch.zeros_like(pred))
        pairs = zip(forward_differences(residual), neighbour_masks(mask))
        dx, dy = (masked_mean(d.square(), m) for d, m in pairs)
        return dx + dy

    def _multi_scale(
        self, pred: Tensor, target: Tensor, mask: Tensor
    ) -> Tensor:
        height, width = pred.shape[-2:]
        # 1 at invalid pixels gives a residual of 0 there
        logs = [
            (
                torch.where(mask, d, torch.ones_like(d)).clamp(min=0) + _EPS
            ).log()
            for d in (pred, target)
        ]
        residual = (logs[0] - logs[1]).reshape(-1, height, width)
        steps, masks = multi_scale_steps(
            residual, mask.reshape(-1, height, width), self.scales
        )
        return per_image_mean(steps, masks[0])

    @staticmethod
    def _edge_aware(pred: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        # (B, C, H, W) -> (B, 1, H, W), or (B, H, W) like the prediction
        grey = image.mean(dim=1, keepdim=pred.ndim == 4)
        known = mask.any()
        parts = []
        for depth_step, image_step in zip(
            forward_differences(pred), forward_differences(grey)
        ):
            weighted = torch.exp(-image_step.abs()) * depth_step.square()
            parts.append(masked_mean(weighted, known.expand_as(weighted)))
        return parts[0] + parts[1]
