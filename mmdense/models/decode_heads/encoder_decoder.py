"""mmseg's segmentor with a choice of interpolation."""

from typing import Any, Optional

from mmengine.config import ConfigDict
from mmseg.models.segmentors import EncoderDecoder as _EncoderDecoder
from mmseg.utils import OptSampleList, SampleList
from torch import Tensor

from mmdense.registry import MODELS
from mmdense.utils.errors import UserValueError

from ..utils.original_size import to_original_size

INTERPOLATIONS = ('bilinear', 'bicubic')


# The stock class has bilinear interpolation fixed where it ends.
@MODELS.register_module()
class EncoderDecoder(_EncoderDecoder):
    """``mmseg.EncoderDecoder`` with bicubic logits of the original size.

    Args:
        test_cfg (dict, optional): As in mmseg, and ``interpolation``:
            'bilinear' or 'bicubic' (the official DPT code) for the way of the
            logits back to the original size. Defaults to
            ``dict(mode='whole', interpolation='bilinear')``.
        **kwargs (Any): ``backbone``, ``decode_head``, ``neck``,
            ``auxiliary_head``, ``train_cfg``, ``data_preprocessor``,
            ``init_cfg``; see mmseg.

    Raises:
        ValueError: If the interpolation is unknown.
    """

    def __init__(
        self, *, test_cfg: Optional[dict] = None, **kwargs: Any
    ) -> None:
        cfg = ConfigDict(mode='whole', interpolation='bilinear')
        cfg.update(test_cfg or {})
        if cfg.interpolation not in INTERPOLATIONS:
            raise UserValueError(
                'EncoderDecoder: test_cfg.interpolation='
                f'{cfg.interpolation!r}, choose from {INTERPOLATIONS}'
            )
        super().__init__(test_cfg=cfg, **kwargs)

    def postprocess_result(
        self, seg_logits: Tensor, data_samples: OptSampleList = None
    ) -> SampleList:
        """Logits and classes of the original size of each image.

        Args:
            seg_logits (Tensor): ``(B, C, H, W)``.
            data_samples (List[SegDataSample], optional): Say padding,
                mirroring and original size. None keeps the size. Defaults to
                None.

        Returns:
            List[SegDataSample]: With ``seg_logits`` and ``pred_sem_seg``.
        """
        mode = self.test_cfg.interpolation
        if data_samples is None or mode == 'bilinear':
            stock: SampleList = super().postprocess_result(
                seg_logits, data_samples
            )
            return stock
        for logits, sample in zip(seg_logits.split(1), data_samples):
            logits = to_original_size(
                logits, sample.metainfo, mode, self.align_corners
            )
            (result,) = super().postprocess_result(logits)
            sample.seg_logits = result.seg_logits
            sample.pred_sem_seg = result.pred_sem_seg
        return data_samples
