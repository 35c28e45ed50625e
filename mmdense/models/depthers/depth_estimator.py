"""Depth estimator: mmseg's data flow with its faults mended."""

from typing import Any, Dict, List, Optional

import torch
from mmengine.config import ConfigDict
from mmseg.models.segmentors import DepthEstimator as _DepthEstimator
from mmseg.utils import OptSampleList, SampleList, add_prefix
from torch import Tensor, nn

from mmdense.registry import MODELS

from .base_depth_head import BaseDepthHead


# Of mmseg's class everything stays but inference and what the heads get.
@MODELS.register_module()
class DepthEstimator(_DepthEstimator):
    """Backbone, optional neck, depth head; a depth map in metres.

    Beyond ``mmseg.DepthEstimator``: losses that need it get the image in
    [0, 1]; ``mode='slide'`` slides (the stock class computes it and then
    predicts on the whole image); flip averaging in every mode; predictions
    are clamped to the range of the head; the size of a prediction never
    depends on a stale ``pad_shape``.

    Args:
        test_cfg (dict, optional): ``mode``: 'whole', 'slide' (needs
            ``crop_size`` and ``stride``, both (height, width)) or
            'slide_flip' (flips every window). ``flip``: average with the
            prediction for the mirrored image. Defaults to
            ``dict(mode='whole', flip=False)``.
        **kwargs (Any): ``backbone``, ``decode_head``, ``neck``,
            ``auxiliary_head``, ``train_cfg``, ``data_preprocessor``,
            ``init_cfg``; see mmseg.

    Raises:
        ValueError: If ``test_cfg`` has an unknown mode or lacks a window.
    """

    MODES = ('whole', 'slide', 'slide_flip')

    def __init__(
        self, *, test_cfg: Optional[dict] = None, **kwargs: Any
    ) -> None:
        cfg = ConfigDict(mode='whole', flip=False)
        cfg.update(test_cfg or {})
        if cfg.mode not in self.MODES:
            raise ValueError(
                f'DepthEstimator: test_cfg.mode={cfg.mode!r}, choose from '
                f'{self.MODES}'
            )
        unknown = set(cfg) - {'mode', 'flip', 'crop_size', 'stride'}
        if unknown:
            raise ValueError(
                f'DepthEstimator: test_cfg has no {sorted(unknown)}; its keys '
                'are mode, flip, crop_size and stride'
            )
        missing = {'crop_size', 'stride'} - set(cfg)
        if cfg.mode != 'whole' and missing:
            raise ValueError(
                f'DepthEstimator: test_cfg.mode={cfg.mode!r} needs '
                f'{sorted(missing)} in test_cfg'
            )
        super().__init__(test_cfg=cfg, **kwargs)

    def unnormalized(self, inputs: Tensor) -> Tensor:
        """The network input as an image in [0, 1].

        Args:
            inputs (Tensor): Output of the data preprocessor
                ``(B, 3, H, W)``.

        Returns:
            Tensor: ``(B, 3, H, W)`` in [0, 1], in the same channel order.
        """
        mean = getattr(self.data_preprocessor, 'mean', None)
        std = getattr(self.data_preprocessor, 'std', None)
        image = inputs.detach().float()
        if mean is not None and std is not None:
            image = image * std + mean
        return (image / 255).clamp(0, 1)

    def loss(
        self, inputs: Tensor, data_samples: SampleList
    ) -> Dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs (Tensor): Normalised images ``(B, 3, H, W)``.
            data_samples (List[SegDataSample]): With ``gt_depth_map``.

        Returns:
            Dict[str, Tensor]: Losses, ``decode.`` or ``aux.`` before their
            names.
        """
        metas = [sample.metainfo for sample in data_samples]
        features = self.extract_feat(inputs, metas)
        losses: Dict[str, Tensor] = {}
        for prefix, head in self._heads():
            extra = {}
            if isinstance(head, BaseDepthHead) and head.needs_image:
                extra['image'] = self.unnormalized(inputs)
            values = head.loss(features, data_samples, self.train_cfg, **extra)
            losses.update(add_prefix(values, prefix))
        return losses

    def _heads(self) -> List[Any]:
        heads: List[Any] = [('decode', self.decode_head)]
        if self.with_auxiliary_head:
            if isinstance(self.auxiliary_head, nn.ModuleList):
                heads += [
                    (f'aux_{i}', head)
                    for i, head in enumerate(self.auxiliary_head)
                ]
            else:
                heads.append(('aux', self.auxiliary_head))
        return heads

    def encode_decode(
        self, inputs: Tensor, batch_img_metas: List[dict]
    ) -> Tensor:
        """Depth of the size of the input.

        Args:
            inputs (Tensor): Normalised images ``(B, 3, H, W)``.
            batch_img_metas (List[dict]): Meta information per image.

        Returns:
            Tensor: ``(B, 1, H, W)`` in metres.
        """
        # a torch.Size tells every mmseg head which size to give
        metas = [
            {**meta, 'img_shape': inputs.shape[2:]} for meta in batch_img_metas
        ]
        features = self.extract_feat(inputs, metas)
        return self.decode_head.predict(features, metas, self.test_cfg)

    def inference(self, inputs: Tensor, batch_img_metas: List[dict]) -> Tensor:
        """Depth in the mode of ``test_cfg``, flip-averaged if asked for.

        Args:
            inputs (Tensor): Normalised images ``(B, 3, H, W)``.
            batch_img_metas (List[dict]): Meta information per image.

        Returns:
            Tensor: ``(B, 1, H, W)`` in metres.
        """
        run = {
            'whole': self.whole_inference,
            'slide': self.slide_inference,
            'slide_flip': self.slide_flip_inference,
        }[self.test_cfg.mode]
        depth = run(inputs, batch_img_metas)
        if self.test_cfg.flip:
            mirrored = run(inputs.flip(dims=(3,)), batch_img_metas)
            depth = (depth + mirrored.flip(dims=(3,))) / 2
        return depth

    def predict(
        self, inputs: Tensor, data_samples: OptSampleList = None
    ) -> SampleList:
        """Depth maps of the original size of each image.

        Args:
            inputs (Tensor): Normalised images ``(B, 3, H, W)``.
            data_samples (List[SegDataSample], optional): Their ``ori_shape``
                is the size of the result; padding is cut off before. None
                keeps the size of the input. Defaults to None.

        Returns:
            List[SegDataSample]: With ``pred_depth_map.data``, ``(1, H, W)``
            in metres, inside the range of the head.
        """
        results = super().predict(inputs, data_samples)
        low = getattr(self.decode_head, 'min_depth', 0.0)
        high = getattr(self.decode_head, 'max_depth', None)
        for sample in results:
            depth = sample.pred_depth_map
            depth.data = torch.clamp(depth.data, min=low, max=high)
        return results
