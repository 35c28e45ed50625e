"""Base of the depth heads: range-limited output, valid mask, losses."""

import math
from abc import ABCMeta
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.utils import ConfigType, SampleList
from torch import Tensor, nn

from mmdense.registry import MODELS

from ..losses.depth_loss import valid_depth_mask

_DEFAULT_LOSS: Tuple[Dict[str, Any], ...] = (
    dict(type='mmdense.BerHuLoss'),
    dict(type='mmdense.DepthGradientLoss', mode='edge_aware'),
)


class BaseDepthHead(BaseDecodeHead, metaclass=ABCMeta):
    r"""From backbone maps to a depth map in metres.

    A subclass writes ``_forward_feature(inputs)``: maps of the backbone or
    neck to one map ``(B, channels, h, w)``. The base turns it into depth with
    one convolution and the output activation, resizes it to the ground truth
    with bilinear interpolation, masks and applies the losses.

    Output activation ``'sigmoid'`` is
    :math:`d_{min} + (d_{max} - d_{min}) \sigma(x)`, ``'relu'`` is
    :math:`d_{min} + \max(x, 0)`; both are computed in float32.

    Built on mmseg's ``BaseDecodeHead`` for its choice of input maps and its
    place in the segmentor; classes, sampler and accuracy are not used.

    Args:
        in_channels (int or Sequence[int]): Channels of the input maps.
        channels (int): Channels before the last convolution.
        min_depth (float): Lower end of the output in metres. Defaults to
            0.0.
        max_depth (float): Upper end of the output in metres; with 'relu'
            only predictions are clamped to it. Defaults to 10.0.
        valid_range (Sequence): Ground truth strictly inside (low, high)
            counts in the loss; high may be None. Defaults to (0.0, None).
        output_act (str): 'sigmoid' or 'relu'. Defaults to 'sigmoid'.
        init_depth (float, optional): Depth in metres that an untrained head
            gives, set through the bias of the last convolution (2.7 is the
            mean of NYU). None for a bias of 0. Defaults to None.
        out_kernel (int): Kernel of the last convolution, odd. Defaults to 1.
        dropout_ratio (float): Dropout before it. Defaults to 0.0.
        norm_cfg (dict, optional): Config of the norms. Defaults to
            ``dict(type='BN')``.
        loss_decode (dict or Sequence[dict]): Depth losses; those with the
            same ``loss_name`` are added. Defaults to berHu plus 0.1 times the
            edge-aware gradient loss.
        init_cfg (dict, optional): Initialisation. None for a normal one of
            std 0.01 of the last convolution with the bias of ``init_depth``;
            what is given replaces this. Defaults to None.
        **kwargs (Any): ``in_index``, ``input_transform``, ``conv_cfg``,
            ``act_cfg``, ``align_corners`` and what further bases take.

    Raises:
        ValueError: If the range, activation or ``init_depth`` is impossible.
    """

    OUTPUT_ACTS = ('sigmoid', 'relu')

    def __init__(
        self,
        in_channels: Union[int, Sequence[int]],
        channels: int,
        *,
        min_depth: float = 0.0,
        max_depth: float = 10.0,
        valid_range: Sequence[Optional[float]] = (0.0, None),
        output_act: str = 'sigmoid',
        init_depth: Optional[float] = None,
        out_kernel: int = 1,
        dropout_ratio: float = 0.0,
        norm_cfg: Optional[dict] = None,
        loss_decode: Union[dict, Sequence[dict]] = _DEFAULT_LOSS,
        init_cfg: Optional[Union[dict, List[dict]]] = None,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        if not 0 <= min_depth < max_depth:
            raise ValueError(
                f'{name}: needs 0 <= min_depth < max_depth, got '
                f'{min_depth} and {max_depth}'
            )
        if output_act not in self.OUTPUT_ACTS:
            raise ValueError(
                f'{name}: output_act={output_act!r}, choose from '
                f'{self.OUTPUT_ACTS}'
            )
        bias = _output_bias(name, init_depth, min_depth, max_depth, output_act)
        if init_cfg is None:
            init_cfg = dict(
                type='Normal',
                std=0.01,
                bias=bias,
                override=dict(name='conv_depth'),
            )
        super().__init__(
            in_channels=in_channels,
            channels=channels,
            num_classes=1,
            threshold=0.0,
            dropout_ratio=dropout_ratio,
            norm_cfg=norm_cfg or dict(type='BN'),
            loss_decode=[],
            init_cfg=init_cfg,
            **kwargs,
        )
        if isinstance(loss_decode, dict):
            loss_decode = [loss_decode]
        self.loss_decode = nn.ModuleList(
            [MODELS.build(dict(cfg)) for cfg in loss_decode]
        )
        del self.conv_seg
        self.conv_depth = nn.Conv2d(
            channels, 1, out_kernel, padding=out_kernel // 2
        )
        assert self.conv_depth.bias is not None
        nn.init.constant_(self.conv_depth.bias, bias)
        self.min_depth = min_depth
        self.max_depth = max_depth
        self.valid_range = tuple(valid_range)
        self.output_act = output_act

    @property
    def needs_image(self) -> bool:
        """bool: Whether a loss wants the image in [0, 1]."""
        return any(
            getattr(loss, 'needs_image', False) for loss in self.loss_decode
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Depth at the resolution of the head.

        Args:
            inputs (Sequence[Tensor]): Maps ``(B, C, h, w)``.

        Returns:
            Tensor: ``(B, 1, h', w')`` in metres, float32.
        """
        features = self._forward_feature(inputs)
        if self.dropout is not None:
            features = self.dropout(features)
        return self.activate(self.conv_depth(features))

    def activate(self, logits: Tensor) -> Tensor:
        """Output activation, in float32 also under autocast.

        Args:
            logits (Tensor): Any shape.

        Returns:
            Tensor: Depth in metres, same shape.
        """
        logits = logits.float()
        if self.output_act == 'relu':
            return self.min_depth + logits.relu()
        span = self.max_depth - self.min_depth
        return self.min_depth + span * logits.sigmoid()

    def loss(
        self,
        inputs: Sequence[Tensor],
        batch_data_samples: SampleList,
        train_cfg: ConfigType = None,
        image: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs (Sequence[Tensor]): Maps ``(B, C, h, w)``.
            batch_data_samples (List[SegDataSample]): With ``gt_depth_map``.
            train_cfg (dict, optional): Unused. Defaults to None.
            image (Tensor, optional): ``(B, 3, H, W)`` in [0, 1], for losses
                that need it. Defaults to None.

        Returns:
            Dict[str, Tensor]: Loss per name.
        """
        return self.loss_by_feat(
            self.forward(inputs), batch_data_samples, image
        )

    def loss_by_feat(
        self,
        pred: Tensor,
        batch_data_samples: SampleList,
        image: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """Losses of a prediction.

        Args:
            pred (Tensor): ``(B, 1, h, w)`` in metres.
            batch_data_samples (List[SegDataSample]): With ``gt_depth_map``.
            image (Tensor, optional): ``(B, 3, H, W)`` in [0, 1]. Defaults to
                None.

        Returns:
            Dict[str, Tensor]: Loss per name.
        """
        target = self._stack_batch_gt(batch_data_samples).to(pred.device)
        low, high = self.valid_range
        mask = valid_depth_mask(target, low or 0.0, high)
        pred = self._resize(pred, target.shape[2:])
        losses: Dict[str, Tensor] = {}
        for module in self.loss_decode:
            value = module(pred, target, mask=mask, image=image)
            name = str(module.loss_name)
            losses[name] = losses[name] + value if name in losses else value
        return losses

    def predict_by_feat(
        self, seg_logits: Tensor, batch_img_metas: List[dict]
    ) -> Tensor:
        """Depth at the size of the network input.

        Args:
            seg_logits (Tensor): Depth ``(B, 1, h, w)`` in metres.
            batch_img_metas (List[dict]): ``img_shape`` of the first is the
                size.

        Returns:
            Tensor: ``(B, 1, H, W)`` in metres.
        """
        size = batch_img_metas[0]['img_shape'][:2]
        return self._resize(seg_logits, size)

    def _resize(self, depth: Tensor, size: Sequence[int]) -> Tensor:
        if tuple(depth.shape[2:]) == tuple(size):
            return depth
        return resize(
            depth,
            size=tuple(size),
            mode='bilinear',
            align_corners=self.align_corners,
            warning=False,
        )

    def _stack_batch_gt(self, batch_data_samples: SampleList) -> Tensor:
        maps = []
        for sample in batch_data_samples:
            truth: Optional[PixelData] = sample.get('gt_depth_map')
            if truth is None:
                raise KeyError(
                    f'{sample.get("img_path")}: no gt_depth_map; load depth '
                    '(mmdense.LoadDepth or mmdense.LoadDepthH5) in the '
                    'training pipeline'
                )
            maps.append(truth.data)
        sizes = {tuple(m.shape) for m in maps}
        if len(sizes) > 1:
            raise ValueError(
                f'depth maps of one batch have different shapes {sizes}; '
                'crop to one size, or set size_divisor and seg_pad_val=0 in '
                'the data_preprocessor'
            )
        return torch.stack(maps)


def _output_bias(
    name: str,
    init_depth: Optional[float],
    low: float,
    high: float,
    output_act: str,
) -> float:
    """Bias of the last convolution that makes the head give a depth."""
    if init_depth is None:
        return 0.0
    if not low < init_depth < high:
        raise ValueError(
            f'{name}: init_depth={init_depth} is not between '
            f'min_depth={low} and max_depth={high}'
        )
    if output_act == 'relu':
        return init_depth - low
    share = (init_depth - low) / (high - low)
    return math.log(share / (1 - share))
