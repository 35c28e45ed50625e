"""Reverse Huber (berHu) loss for depth regression."""

from typing import Optional

import torch
from torch import Tensor

from mmdense.registry import MODELS

from .depth_loss import DepthLoss, masked_mean

# Keeps the division finite when prediction and target agree everywhere.
_SMALLEST_C = 1e-6


def berhu_threshold(
    residual: Tensor, mask: Tensor, factor: float, detach: bool = True
) -> Tensor:
    """Residual at which berHu turns from linear to quadratic.

    Args:
        residual (Tensor): Prediction minus target, any shape.
        mask (Tensor): bool, same shape.
        factor (float): Share of the largest absolute residual.
        detach (bool): Without gradient. Defaults to True.

    Returns:
        Tensor: The scalar ``factor * max |residual|`` over ``mask``, at least
        1e-6.
    """
    size = (residual.detach() if detach else residual).abs()
    largest = torch.where(mask, size, torch.zeros_like(size)).max()
    return (factor * largest).clamp(min=_SMALLEST_C)


@MODELS.register_module()
class BerHuLoss(DepthLoss):
    r"""Linear for small and quadratic for large residuals.

    With :math:`r` the residuals of the valid pixels of the whole batch and
    :math:`c = 0.2 \max |r|` (by default no gradient through :math:`c`):

    .. math::
        B(r) = |r| \text{ if } |r| \le c, \text{ else } (r^2 + c^2) / (2c)

    and the loss is the mean of :math:`B` over the valid pixels. The batch is
    that of one process: with several GPUs each has its own :math:`c`.

    Sources: [0] Laina et al., Deeper Depth Prediction with Fully
    Convolutional Residual Networks, 2016, eq. 1 and 2.

    Args:
        factor (float): c as a share of the largest residual. Defaults to
            0.2.
        loss_weight (float): Factor of the loss. Defaults to 1.0.
        loss_name (str): Name in the log. Defaults to 'loss_berhu'.
        detach_threshold (bool): Treat c as a constant. Otherwise the largest
            residual also gets the gradient of the others through c.
            Defaults to True.

    Raises:
        ValueError: If ``factor`` is not in (0, 1].
    """

    def __init__(
        self,
        factor: float = 0.2,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_berhu',
        detach_threshold: bool = True,
    ) -> None:
        super().__init__(loss_weight, loss_name)
        if not 0 < factor <= 1:
            raise ValueError(f'BerHuLoss: factor={factor} is not in (0, 1]')
        self.factor = factor
        self.detach_threshold = detach_threshold

    def compute(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor,
        image: Optional[Tensor],
    ) -> Tensor:
        """Unweighted loss, see :meth:`DepthLoss.compute`."""
        residual = torch.where(mask, pred - target, torch.zeros_like(pred))
        c = berhu_threshold(residual, mask, self.factor, self.detach_threshold)
        size = residual.abs()
        quadratic = (residual.square() + c.square()) / (2 * c)
        return masked_mean(torch.where(size <= c, size, quadratic), mask)
