"""LocalGlobal: patches of one view against the class token of the other."""

from typing import Dict, List, Optional, Tuple

import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor

from mmdense.registry import MODELS


@MODELS.register_module()
class LocalGlobal(BaseSelfSupervisor):
    """Local-to-global contrastive pre-training of a ViT.

    The class token of each view has to recognise every patch token of the
    other view of its image among the patches of the other images. One
    encoder, gradients through both views; no momentum copy, predictor or
    queue.

    Source: Rabarisoa, Belissen, Chabot, Pham, "Self-Supervised Pre-training
    of Vision Transformers for Dense Prediction Tasks", CVPRW 2023. There is
    no public code.

    Args:
        backbone (dict): ViT with class token and ``out_type='raw'``.
        neck (dict): Projector, :class:`mmdense.TokenProjector`.
        head (dict): :class:`mmdense.LocalGlobalHead`.
        data_preprocessor (dict, optional): Defaults to
            ``mmpretrain.SelfSupDataPreprocessor``.
        init_cfg (dict, optional): Initialisation. Defaults to None.

    Raises:
        ValueError: If the backbone does not give the token sequence.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        data_preprocessor: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        # the stock default has no scope and is not found from here
        data_preprocessor = dict(data_preprocessor or {})
        data_preprocessor.setdefault(
            'type', 'mmpretrain.SelfSupDataPreprocessor'
        )
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        out_type = getattr(self.backbone, 'out_type', None)
        extra = getattr(self.backbone, 'num_extra_tokens', 0)
        if out_type != 'raw' or extra < 1:
            raise ValueError(
                'LocalGlobal needs class and patch tokens together: set '
                "model.backbone.out_type='raw' and with_cls_token=True "
                f'(got out_type={out_type!r} with {extra} extra tokens).'
            )

    def _tokens(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        """Projected tokens ``(B, d)`` and ``(B, N, d)`` of images."""
        tokens = self.backbone(images)[-1]  # (B, extra + N, C)
        extra = self.backbone.num_extra_tokens
        return self.neck(tokens[:, 0], tokens[:, extra:])

    def loss(
        self, inputs: List[Tensor], data_samples: List[DataSample]
    ) -> Dict[str, Tensor]:
        """Loss of a batch of image pairs.

        Args:
            inputs (List[Tensor]): The two views, ``(B, 3, H, W)`` each.
            data_samples (List[DataSample]): Not used: there are no labels.

        Returns:
            Dict[str, Tensor]: ``loss`` and monitors, all scalars.
        """
        if len({view.shape for view in inputs}) == 1:
            # one pass over all views keeps the device busy
            cls, patches = self._tokens(torch.cat(inputs))
            views = list(
                zip(cls.chunk(len(inputs)), patches.chunk(len(inputs)))
            )
        else:
            views = [self._tokens(view) for view in inputs]
        return self.head.loss(views)
