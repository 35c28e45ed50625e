"""Contrast of two views against queues of keys."""

from typing import Any, Dict, List, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmdense.registry import MODELS
from mmdense.utils.dist import process_info

from ..utils.monitors import feature_spread
from .contrast import check_queue, enqueue, gather_keys, info_nce


@MODELS.register_module()
class MoBYLoss(BaseModule):
    """Loss of MoBY, with its two queues.

    ``InfoNCE(pred_1, key_2, queue_2) + InfoNCE(pred_2, key_1, queue_1)``,
    all normalised; the keys of view i enter queue i in :meth:`after_step`.

    Sources: Xie et al., "Self-Supervised Learning with Swin Transformers",
    arXiv 2105.04553, section 3; SwinTransformer/Transformer-SSL
    ``models/moby.py``.

    Args:
        channels (int): Width of the keys. Defaults to 256.
        queue_size (int): Keys in each queue, divisible by the keys of a
            step. Defaults to 4096.
        temperature (float): Above 0. Defaults to 0.2.

    Raises:
        ValueError: If a value is out of its range.
    """

    queue1: Tensor
    queue2: Tensor
    queue_ptr: Tensor

    def __init__(
        self,
        channels: int = 256,
        queue_size: int = 4096,
        temperature: float = 0.2,
    ) -> None:
        super().__init__()
        if queue_size < 1 or temperature <= 0:
            raise ValueError(
                f'MoBYLoss: queue_size={queue_size} and temperature='
                f'{temperature} must be positive.'
            )
        self.queue_size = queue_size
        self.temperature = temperature
        for name in ('queue1', 'queue2'):
            queue = F.normalize(torch.randn(channels, queue_size), dim=0)
            self.register_buffer(name, queue)
        self.register_buffer('queue_ptr', torch.zeros(1, dtype=torch.long))
        self._held: List[Tuple[Tensor, Tensor]] = []

    def forward(
        self, pred_1: Tensor, pred_2: Tensor, key_1: Tensor, key_2: Tensor
    ) -> Dict[str, Tensor]:
        """Loss and monitors.

        Args:
            pred_1 (Tensor): Predictions of view 1, ``(B, d)``.
            pred_2 (Tensor): Predictions of view 2, ``(B, d)``.
            key_1 (Tensor): Keys of view 1 without gradient, ``(B, d)``.
            key_2 (Tensor): Keys of view 2 without gradient, ``(B, d)``.

        Returns:
            Dict[str, Tensor]: Scalars: ``loss``; without gradient
            ``pos_cos`` (mean cosine of the positives) and ``std_key``
            (spread of the keys, 1 spread, 0 collapsed).

        Raises:
            ValueError: If the keys do not divide the queue.
        """
        check_queue(
            self.queue_size,
            len(key_1) * process_info()[1],
            'model.loss.queue_size',
        )
        with torch.autocast(pred_1.device.type, enabled=False):
            q1, q2, k1, k2 = (
                F.normalize(x.float(), dim=1)
                for x in (pred_1, pred_2, key_1.detach(), key_2.detach())
            )
            loss = info_nce(q1, k2, self.queue2, self.temperature) + info_nce(
                q2, k1, self.queue1, self.temperature
            )
            positive = ((q1 * k2).sum(1) + (q2 * k1).sum(1)).detach().mean()
        if self.training:
            self._held.append((k1, k2))
        return {
            'loss': loss,
            'pos_cos': positive / 2,
            'std_key': feature_spread(k1),
        }

    @torch.no_grad()
    def after_step(self) -> None:
        """Enqueue the keys of all processes since the last call."""
        for key_1, key_2 in self._held:
            joint = gather_keys(torch.cat((key_1, key_2), dim=1))
            k1, k2 = joint.chunk(2, dim=1)
            enqueue(self.queue1, k1, self.queue_ptr)
            enqueue(self.queue2, k2, self.queue_ptr)
            self.queue_ptr.add_(len(joint)).remainder_(self.queue_size)
        self._held.clear()

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, '_held': []}
