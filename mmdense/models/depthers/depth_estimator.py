"""Depth estimator: mmseg's data flow with its faults mended."""

from typing import Any, Dict, List, Optional

from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.models.segmentors import DepthEstimator as _DepthEstimator
from mmseg.structures import SegDataSample
from mmseg.utils import OptSampleList, SampleList, add_prefix
from torch import Tensor, nn

from mmdense.registry import MODELS
from mmdense.utils.errors import UserValueError

from ..utils.original_size import to_original_size
from .base_depth_head import BaseDepthHead


# Of mmseg's class everything stays but inference and what the heads get.
@MODELS.register_module()
class DepthEstimator(_DepthEstimator):
    """Backbone, optional neck, depth head; a depth map.

    Metres, or with a head of ``output='relative'`` inverse depth up to scale
    and shift.

    Beyond ``mmseg.DepthEstimator``: losses that need it get the image in
    [0, 1]; ``mode='slide'`` slides (the stock class computes it and then
    predicts on the whole image); flip averaging in every mode; metric
    predictions are clamped to the range of the head; the size of a
    prediction never depends on a stale ``pad_shape``; predictions return to
    the original size with a choice of interpolation, and images of one batch
    may have different original sizes; mirroring in both directions is undone.

    Args:
        test_cfg (dict, optional): ``mode``: 'whole', 'slide' (needs
            ``crop_size`` and ``stride``, both (height, width)) or
            'slide_flip' (flips every window). ``flip``: average with the
            prediction for the mirrored image. ``interpolation``: 'bilinear'
            or 'bicubic' (the official DPT code) on the way back to the
            original size. Defaults to ``dict(mode='whole', flip=False,
            interpolation='bilinear')``.
        **kwargs (Any): ``backbone``, ``decode_head``, ``neck``,
            ``auxiliary_head``, ``train_cfg``, ``data_preprocessor``,
            ``init_cfg``; see mmseg.

    Raises:
        ValueError: If ``test_cfg`` has an unknown mode or interpolation, or
            lacks a window.
    """

    MODES = ('whole', 'slide', 'slide_flip')
    INTERPOLATIONS = ('bilinear', 'bicubic')

    def __init__(
        self, *, test_cfg: Optional[dict] = None, **kwargs: Any
    ) -> None:
        cfg = ConfigDict(mode='whole', flip=False, interpolation='bilinear')
        known = (*cfg, 'crop_size', 'stride')
        cfg.update(test_cfg or {})
        for key, choices in (
            ('mode', self.MODES),
            ('interpolation', self.INTERPOLATIONS),
        ):
            if cfg[key] not in choices:
                raise UserValueError(
                    f'DepthEstimator: test_cfg.{key}={cfg[key]!r}, choose '
                    f'from {choices}'
                )
        unknown = set(cfg) - set(known)
        if unknown:
            raise UserValueError(
                f'DepthEstimator: test_cfg has no {sorted(unknown)}; its keys '
                f'are {", ".join(known)}'
            )
        missing = {'crop_size', 'stride'} - set(cfg)
        if cfg.mode != 'whole' and missing:
            raise UserValueError(
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
            Tensor: ``(B, 1, H, W)``, as the head gives it.
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
            Tensor: ``(B, 1, H, W)``, as the head gives it.
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

    def postprocess_result(
        self, depth: Tensor, data_samples: OptSampleList = None
    ) -> SampleList:
        """Depth maps of the original size of each image.

        Metric depth is clamped to the range of the head after the resizing;
        inverse relative depth is left as it is.

        Args:
            depth (Tensor): ``(B, 1, H, W)``.
            data_samples (List[SegDataSample], optional): Their padding
                (``img_padding_size`` or ``padding_size``: left, right, top,
                bottom) is cut off, their mirroring (``flip``) undone, the
                rest resized to their ``ori_shape``. None keeps the size.
                Defaults to None.

        Returns:
            List[SegDataSample]: With ``pred_depth_map.data``
            ``(1, H', W')`` and the meta information ``flip_test``, whether
            it is an average over both flips.
        """
        flips = self.test_cfg.flip or self.test_cfg.mode == 'slide_flip'
        samples = data_samples
        if samples is None:
            samples = [SegDataSample() for _ in depth]
        for one, sample in zip(depth.split(1), samples):
            if data_samples is not None:
                one = to_original_size(
                    one,
                    sample.metainfo,
                    self.test_cfg.interpolation,
                    self.align_corners,
                )
            sample.pred_depth_map = PixelData(data=self._clamp(one)[0])
            # for the protocol line of the metric
            sample.set_metainfo(dict(flip_test=bool(flips)))
        return samples

    def _clamp(self, depth: Tensor) -> Tensor:
        if getattr(self.decode_head, 'is_relative', False):
            return depth
        low = getattr(self.decode_head, 'min_depth', 0.0)
        high = getattr(self.decode_head, 'max_depth', None)
        return depth.clamp(min=low, max=high)
