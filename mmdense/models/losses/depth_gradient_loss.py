"""Squared-gradient losses for depth: edge-aware smoothness, matching."""

from typing import Optional, Tuple

import torch
from torch import Tensor

from mmdense.registry import MODELS

from .depth_loss import DepthLoss, masked_mean


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


@MODELS.register_module()
class DepthGradientLoss(DepthLoss):
    r"""Squared depth gradients, in one of two readings.

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
    averaged over its own pairs. A batch without one valid pixel gives 0 in
    both modes.

    Sources: [0] Heise et al., PM-Huber, 2013 (image-guided regularisation).

    Args:
        mode (str): 'edge_aware' or 'match_gt'. Defaults to 'edge_aware'.
        loss_weight (float): Factor of the loss. Defaults to 0.1.
        loss_name (str): Name in the log. Defaults to 'loss_gradient'.

    Raises:
        ValueError: If ``mode`` is unknown.
    """

    MODES = ('edge_aware', 'match_gt')

    def __init__(
        self,
        mode: str = 'edge_aware',
        loss_weight: float = 0.1,
        loss_name: str = 'loss_gradient',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        if mode not in self.MODES:
            raise ValueError(
                f'DepthGradientLoss: mode={mode!r}, choose from {self.MODES}'
            )
        self.mode = mode
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
        residual = torch.where(mask, pred - target, torch.zeros_like(pred))
        pairs = zip(forward_differences(residual), neighbour_masks(mask))
        dx, dy = (masked_mean(d.square(), m) for d, m in pairs)
        return dx + dy

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
