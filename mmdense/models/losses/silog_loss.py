"""Scale-invariant logarithmic depth loss in its named variants."""

from typing import Dict, Optional

import torch
from torch import Tensor

from mmdense.registry import MODELS

from .depth_loss import DepthLoss


def safe_sqrt(values: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite.

    Args:
        values (Tensor): Any shape; what is negative counts as 0.

    Returns:
        Tensor: Same shape.
    """
    positive = ~(values <= 0)  # so that NaN stays NaN
    root = torch.where(positive, values, torch.ones_like(values)).sqrt()
    return torch.where(positive, root, torch.zeros_like(root))


@MODELS.register_module()
class SILogLoss(DepthLoss):
    r"""Square root of variance plus weighted squared mean of the log error.

    With :math:`g = \ln(d + \epsilon) - \ln(t + \epsilon)` over the valid
    pixels:

    .. math::
        L = \sqrt{\text{var}(g) + (1 - \lambda)\, \text{mean}(g)^2}

    "SILog" names several losses; ``variant`` fixes which:

    =============== ====== ======== ===== ======= ====
    variant         lambda variance over  epsilon root
    =============== ====== ======== ===== ======= ====
    'toolbox'       0.85   unbiased batch 1e-3    yes
    'bts'           0.85   biased   batch 1e-6    yes
    'eigen'         0.5    biased   image 1e-6    yes
    'eigen_squared' 0.5    biased   image 1e-6    no
    =============== ====== ======== ===== ======= ====

    'toolbox' is the ``SigLoss`` of [0]; 'bts' is that of [2], there with a
    factor of 10 and no epsilon; 'eigen' is that of mmseg's ``SiLogLoss``
    (which has NaN gradients at a perfect prediction; this one has zero) and
    of Depth Anything; 'eigen_squared' is [1] eq. 4 itself,
    :math:`E g^2 - \lambda (E g)^2`, with which DPT is fine-tuned to metric
    depth. Over images, those without valid pixels are left out of the mean.

    Sources: [0] zhyever/Monocular-Depth-Estimation-Toolbox,
    ``depth/models/losses/sigloss.py``. [1] Eigen et al., Depth Map Prediction
    from a Single Image using a Multi-Scale Deep Network, 2014. [2] Lee et
    al., From Big to Small, 2019, eq. 4.

    Args:
        variant (str): A name of the table. Defaults to 'toolbox'.
        variance_focus (float, optional): lambda in [0, 1]; None for the
            variant's. Defaults to None.
        eps (float, optional): Added to both depths before the logarithm, in
            metres; None for the variant's. Defaults to None.
        warm_up_iters (int): Number of first training calls in which only
            the mean's part of :math:`L` is used. The count is in the
            checkpoint; a head with auxiliary depths makes several calls in a
            step. Defaults to 0.
        loss_weight (float): Factor of the loss. Defaults to 1.0.
        loss_name (str): Name in the log. Defaults to 'loss_silog'.

    Raises:
        ValueError: If ``variant``, ``variance_focus`` or ``eps`` is out of
            range.
    """

    calls: Tensor

    VARIANTS: Dict[str, Dict[str, float]] = {
        'toolbox': dict(focus=0.85, eps=1e-3, unbiased=1),
        'bts': dict(focus=0.85, eps=1e-6),
        'eigen': dict(focus=0.5, eps=1e-6, per_image=1),
        'eigen_squared': dict(focus=0.5, eps=1e-6, per_image=1, squared=1),
    }

    def __init__(
        self,
        variant: str = 'toolbox',
        variance_focus: Optional[float] = None,
        eps: Optional[float] = None,
        warm_up_iters: int = 0,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_silog',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        if variant not in self.VARIANTS:
            raise ValueError(
                f'SILogLoss: variant={variant!r}, choose from '
                f'{tuple(self.VARIANTS)}'
            )
        setting = self.VARIANTS[variant]
        if variance_focus is None:
            variance_focus = setting['focus']
        if not 0 <= variance_focus <= 1:
            raise ValueError(
                f'SILogLoss: variance_focus={variance_focus} is not in [0, 1]'
            )
        self.variance_focus = variance_focus
        self.eps = setting['eps'] if eps is None else eps
        if self.eps <= 0:
            raise ValueError(f'SILogLoss: eps={self.eps} is not above 0')
        self.unbiased = bool(setting.get('unbiased'))
        self.per_image = bool(setting.get('per_image'))
        self.squared = bool(setting.get('squared'))
        self.warm_up_iters = warm_up_iters
        if warm_up_iters > 0:
            self.register_buffer('calls', torch.zeros((), dtype=torch.long))

    def compute(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor,
        image: Optional[Tensor],
    ) -> Tensor:
        """Unweighted loss, see :meth:`DepthLoss.compute`."""
        ones = torch.ones_like(pred)
        # (B, ...) -> (B or 1, pixels); 1 at invalid pixels gives g = 0 there
        rows = len(pred) if self.per_image else 1
        pred = torch.where(mask, pred, ones).reshape(rows, -1)
        target = torch.where(mask, target, ones).reshape(rows, -1)
        weight = mask.reshape(rows, -1).to(pred.dtype)
        pred, target = pred.clamp(min=0), target.clamp(min=0)
        g = torch.log(pred + self.eps) - torch.log(target + self.eps)

        count = weight.sum(dim=1)
        mean = (g * weight).sum(dim=1) / count.clamp(min=1)
        spread = (g - mean[:, None]).square() * weight
        variance = spread.sum(dim=1) / (count - int(self.unbiased)).clamp(
            min=1
        )
        bias = (1 - self.variance_focus) * mean.square()
        total = variance + bias
        if self.warm_up_iters > 0:
            total = torch.where(self.calls < self.warm_up_iters, bias, total)
            if self.training:
                self.calls.add_(1)
        if not self.squared:
            total = safe_sqrt(total)
        return total.sum() / (count > 0).sum().clamp(min=1)
