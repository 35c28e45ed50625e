"""Head of LocalGlobal: the loss on projected tokens of two views."""

from typing import Dict, List, Optional, Tuple

from mmengine.model import BaseModule
from torch import Tensor

from mmdense.registry import MODELS


@MODELS.register_module()
class LocalGlobalHead(BaseModule):
    """Hands the tokens of two views to the loss.

    Args:
        loss (dict): Config of the loss, see
            :class:`~mmdense.models.losses.LocalGlobalLoss`.
        init_cfg (dict, optional): Initialisation. Defaults to None.
    """

    def __init__(self, loss: dict, init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg)
        self.loss_module = MODELS.build(loss)

    def loss(self, views: List[Tuple[Tensor, Tensor]]) -> Dict[str, Tensor]:
        """Loss and monitors of two views.

        Args:
            views (list): For each view its global tokens ``(B, d)`` and
                patch tokens ``(B, N, d)``.

        Returns:
            Dict[str, Tensor]: See
            :meth:`~mmdense.models.losses.LocalGlobalLoss.forward`.

        Raises:
            ValueError: If there are not exactly two views.
        """
        if len(views) != 2:
            raise ValueError(
                f'LocalGlobal contrasts two views, got {len(views)}. Set '
                'num_views=[2] in the training pipeline.'
            )
        (z1, p1), (z2, p2) = views
        return self.loss_module(z1, p1, z2, p2)
