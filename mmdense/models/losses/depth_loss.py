"""Base class of the depth losses: validity, precision, weighting."""

from abc import ABCMeta, abstractmethod
from typing import Any, Optional, Tuple

import torch
from torch import Tensor, nn

#: Predictions beyond this, infinite ones included, count as this: squares and
#: sums of it stay finite in float32.
LARGEST = 1e6


class _Bounded(torch.autograd.Function):
    """To float32 and into [-LARGEST, LARGEST]; float64 stays.

    The gradient passes unchanged, so that a prediction out of bounds comes
    back, but never leaves the range of a half type. NaN stays NaN.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.dtype = values.dtype
        return _promote(values).clamp(-LARGEST, LARGEST)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        limit = torch.finfo(ctx.dtype).max
        return grad.clamp(-limit, limit).to(ctx.dtype)


def valid_depth_mask(
    target: Tensor, min_depth: float = 0.0, max_depth: Optional[float] = None
) -> Tensor:
    """Pixels whose ground truth counts: finite and strictly inside a range.

    Args:
        target (Tensor): Depth in metres, any shape. 0, NaN and infinity mean
            "no measurement".
        min_depth (float): Lower bound in metres, excluded. Defaults to 0.0.
        max_depth (float, optional): Upper bound in metres, excluded. None
            for no bound. Defaults to None.

    Returns:
        Tensor: bool, the shape of ``target``.
    """
    mask = torch.isfinite(target) & (target > min_depth)
    if max_depth is not None:
        mask = mask & (target < max_depth)
    return mask


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask`` is set, 0 if it is nowhere set.

    Args:
        values (Tensor): Any shape, finite where ``mask`` is set.
        mask (Tensor): bool, the shape of ``values``.

    Returns:
        Tensor: A scalar. Its gradient is zero outside ``mask``, also where
        ``values`` is not finite there.
    """
    kept = torch.where(mask, values, torch.zeros_like(values))
    return kept.sum() / mask.sum().clamp(min=1)


class DepthLoss(nn.Module, metaclass=ABCMeta):
    """Common half of all depth losses.

    A subclass writes :meth:`compute`, which gets tensors of one shape in
    float32 (float64 stays) and a mask. It must select by ``torch.where``,
    never by indexing, so that no training step waits for the device.

    Args:
        loss_weight (float): Factor of the loss. Defaults to 1.0.
        loss_name (str): Name in the log. It has to start with ``loss_`` to
            be part of the total. Defaults to 'loss_depth'.
    """

    needs_image = False

    def __init__(
        self, loss_weight: float = 1.0, loss_name: str = 'loss_depth'
    ) -> None:
        super().__init__()
        if not loss_name.startswith('loss_'):
            raise ValueError(
                f'{type(self).__name__}: loss_name={loss_name!r} has to start '
                "with 'loss_', otherwise mmengine leaves it out of the total"
            )
        self.loss_weight = loss_weight
        self._loss_name = loss_name

    @property
    def loss_name(self) -> str:
        """str: Name in the log."""
        return self._loss_name

    @abstractmethod
    def compute(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor,
        image: Optional[Tensor],
    ) -> Tensor:
        """Unweighted loss.

        Args:
            pred (Tensor): Predicted depth ``(B, 1, H, W)`` in metres.
            target (Tensor): True depth, same shape, 0 outside ``mask``.
            mask (Tensor): bool, same shape, the pixels that count.
            image (Tensor, optional): ``(B, C, H, W)`` in [0, 1].

        Returns:
            Tensor: A scalar.
        """

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Optional[Tensor] = None,
        image: Optional[Tensor] = None,
    ) -> Tensor:
        """Weighted loss of a batch, in float32 also under autocast.

        Predictions are limited to :data:`LARGEST` either way, with their
        gradient left as it is there; a NaN prediction at a pixel that counts
        makes the loss NaN.

        Args:
            pred (Tensor): Predicted depth ``(B, 1, H, W)`` (or
                ``(B, H, W)``) in metres.
            target (Tensor): True depth, same shape; 0, NaN and infinity mean
                invalid.
            mask (Tensor, optional): bool or 0/1, same shape. None for
                ``target > 0``. Pixels with a target that is not finite never
                count. Defaults to None.
            image (Tensor, optional): Network input before normalisation,
                ``(B, C, H, W)`` in [0, 1]. Defaults to None.

        Returns:
            Tensor: A scalar. 0 with zero gradients if no pixel is valid.

        Raises:
            ValueError: If shapes do not fit or a needed image is missing.
        """
        self._check(pred, target, mask, image)
        with torch.autocast(device_type=pred.device.type, enabled=False):
            pred, target = _Bounded.apply(pred), _promote(target)
            if mask is None:
                mask = valid_depth_mask(target)
            else:
                mask = mask.bool() & torch.isfinite(target)
            target = torch.where(mask, target, torch.zeros_like(target))
            target = target.clamp(max=LARGEST)
            if image is not None:
                image = _promote(image)
            return self.loss_weight * self.compute(pred, target, mask, image)

    def _check(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Optional[Tensor],
        image: Optional[Tensor],
    ) -> None:
        name = type(self).__name__
        if pred.shape != target.shape:
            raise ValueError(
                f'{name}: prediction {_shape(pred)} and target '
                f'{_shape(target)} differ; resize the prediction to the '
                'target and give both a channel axis'
            )
        if mask is not None and mask.shape != target.shape:
            raise ValueError(
                f'{name}: mask {_shape(mask)} and target {_shape(target)} '
                'differ'
            )
        if not self.needs_image:
            return
        if image is None:
            raise ValueError(
                f'{name} needs the image in [0, 1]; use it inside '
                'mmdense.DepthEstimator, which passes it, or call it with '
                'image='
            )
        if image.shape[-2:] != pred.shape[-2:] or (
            image.shape[0] != pred.shape[0]
        ):
            raise ValueError(
                f'{name}: image {_shape(image)} and prediction '
                f'{_shape(pred)} differ in batch, height or width'
            )


def _promote(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype != torch.float64 else tensor


def _shape(tensor: Tensor) -> Tuple[int, ...]:
    return tuple(tensor.shape)
