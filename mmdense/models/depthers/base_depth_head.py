"""Base of the depth heads: output activation, valid mask, losses."""

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
from .depth_output import DepthOutput

_DEFAULT_LOSS: Tuple[Dict[str, Any], ...] = (
    dict(type='mmdense.BerHuLoss'),
    dict(type='mmdense.DepthGradientLoss', mode='edge_aware'),
)
_RELATIVE_LOSS: Tuple[Dict[str, Any], ...] = (dict(type='mmdense.SSILoss'),)


class BaseDepthHead(BaseDecodeHead, metaclass=ABCMeta):
    """From backbone maps to a depth map.

    A subclass writes ``_forward_feature(inputs)``: maps of the backbone or
    neck to one map ``(B, channels, h, w)``. The base turns it into depth with
    one convolution and the output activation, resizes it to the ground truth
    with bilinear interpolation, masks and applies the losses.

    The output is metres, but for ``output='relative'`` inverse depth up to
    scale and shift; see :class:`DepthOutput`. It is computed in float32. What
    the losses compare with it is always the ground truth as loaded (depth).

    Built on mmseg's ``BaseDecodeHead`` for its choice of input maps and its
    place in the segmentor; classes, sampler and accuracy are not used.

    Args:
        in_channels (int or Sequence[int]): Channels of the input maps.
        channels (int): Channels before the last convolution.
        min_depth (float): Lower end of the output in metres. Defaults to
            0.0.
        max_depth (float): Upper end of the output in metres; other outputs
            than 'sigmoid_range' are only clamped to it in predictions,
            'relative' never. Defaults to 10.0.
        valid_range (Sequence): Ground truth strictly inside (low, high)
            counts in the loss; high may be None. Defaults to (0.0, None).
        output (str): 'sigmoid_range', 'relu_min', 'relative' or
            'inverse_affine'. Defaults to 'sigmoid_range'.
        scale (float, optional): a of 'inverse_affine'; the head cannot be
            run without it. Defaults to None.
        shift (float, optional): b of 'inverse_affine', likewise. Defaults to
            None.
        learn_affine (bool): Whether these two are learned. Defaults to
            False.
        non_negative (bool): Whether 'relative' and 'inverse_affine' cut the
            inverse depth at 0. Defaults to True.
        init_depth (float, optional): Depth in metres that an untrained head
            gives, set through the bias of the last convolution (2.7 is the
            mean of NYU). None for a bias of 0, or one above it where the
            output is cut at 0 (:meth:`DepthOutput.bias`). Defaults to None.
        out_kernel (int): Kernel of the last convolution, odd. Defaults to 1.
        dropout_ratio (float): Dropout before it. Defaults to 0.0.
        norm_cfg (dict, optional): Config of the norms. Defaults to
            ``dict(type='BN')``.
        loss_decode (dict or Sequence[dict], optional): Depth losses; those
            with the same ``loss_name`` are added. None for berHu plus 0.1
            times the edge-aware gradient loss, for ``mmdense.SSILoss`` with
            'relative'. Defaults to None.
        init_cfg (dict, optional): Initialisation. None for a normal one of
            std 0.01 of the last convolution with the bias of ``init_depth``;
            what is given replaces this. Defaults to None.
        **kwargs (Any): ``in_index``, ``input_transform``, ``conv_cfg``,
            ``act_cfg``, ``align_corners`` and what further bases take.

    Raises:
        ValueError: If the range, output or ``init_depth`` is impossible.
    """

    def __init__(
        self,
        in_channels: Union[int, Sequence[int]],
        channels: int,
        *,
        min_depth: float = 0.0,
        max_depth: float = 10.0,
        valid_range: Sequence[Optional[float]] = (0.0, None),
        output: str = 'sigmoid_range',
        scale: Optional[float] = None,
        shift: Optional[float] = None,
        learn_affine: bool = False,
        non_negative: bool = True,
        init_depth: Optional[float] = None,
        out_kernel: int = 1,
        dropout_ratio: float = 0.0,
        norm_cfg: Optional[dict] = None,
        loss_decode: Optional[Union[dict, Sequence[dict]]] = None,
        init_cfg: Optional[Union[dict, List[dict]]] = None,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        if not 0 <= min_depth < max_depth:
            raise ValueError(
                f'{name}: needs 0 <= min_depth < max_depth, got '
                f'{min_depth} and {max_depth}'
            )
        depth_output = DepthOutput(
            output,
            min_depth,
            max_depth,
            scale,
            shift,
            learn_affine,
            non_negative,
        )
        bias = depth_output.bias(name, init_depth)
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
        if loss_decode is None:
            relative = depth_output.is_relative
            loss_decode = _RELATIVE_LOSS if relative else _DEFAULT_LOSS
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
        self.output = output
        self.depth_output = depth_output

    @property
    def needs_image(self) -> bool:
        """bool: Whether a loss wants the image in [0, 1]."""
        return any(
            getattr(loss, 'needs_image', False) for loss in self.loss_decode
        )

    @property
    def is_relative(self) -> bool:
        """bool: Whether it gives inverse depth up to scale and shift."""
        return self.depth_output.is_relative

    def forward(self, inputs: Sequence[Any]) -> Tensor:
        """Depth at the resolution of the head.

        Args:
            inputs (Sequence): Outputs of the backbone or neck: maps
                ``(B, C, h, w)``, for some heads tokens.

        Returns:
            Tensor: ``(B, 1, h', w')`` in metres (inverse depth if
            'relative'), float32.
        """
        features = self._forward_feature(inputs)
        if self.dropout is not None:
            features = self.dropout(features)
        return self.depth_output(self.conv_depth(features))

    def loss(
        self,
        inputs: Sequence[Any],
        batch_data_samples: SampleList,
        train_cfg: ConfigType = None,
        image: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs (Sequence): As of :meth:`forward`.
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
            pred (Tensor): ``(B, 1, h, w)``, as of :meth:`forward`.
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
            seg_logits (Tensor): ``(B, 1, h, w)``, as of :meth:`forward`.
            batch_img_metas (List[dict]): ``img_shape`` of the first is the
                size.

        Returns:
            Tensor: ``(B, 1, H, W)``.
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
