"""Segmentation head of DPT."""

from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.utils import ConfigType, SampleList
from torch import Tensor, nn

from mmdense.registry import MODELS
from mmdense.utils.errors import UserValueError

from ..necks.dpt_blocks import double_size
from ..necks.dpt_decoder import DPTDecoder

INTERPOLATIONS = ('bilinear', 'bicubic')
_BN = dict(type='BN')
_LOSS = dict(type='mmseg.CrossEntropyLoss')


# mmseg's DPTHead has no auxiliary output, no last enlargement and no maps.
@MODELS.register_module()
class DPTSegHead(BaseDecodeHead):
    """DPT decoder, then 3x3 convolution, norm, ReLU, dropout, classes, x2.

    An auxiliary output of the same layers but the x2 sits on the fusion
    output before the last; its losses are called ``loss_aux_*``.

    Sources: [0] Ranftl et al., Vision Transformers for Dense Prediction,
    2021, section 4.2. [1] isl-org/DPT ``DPTSegmentationModel``.

    Args:
        in_channels (Sequence[int]): Channels of the four taps.
        num_classes (int): Number of classes.
        levels (Sequence[str]): Kind of each tap, 'tokens' or 'map'. Defaults
            to four times 'tokens'.
        reassemble_channels (Sequence[int], optional): See
            :class:`DPTDecoder`. Defaults to None: (96, 192, 384, 768).
        channels (int): Width of the decoder. Defaults to 256.
        readout (str): 'project', 'add' or 'ignore'. Defaults to 'project'.
        patch_size (int): Patch side of the ViT. Defaults to 16.
        aux_weight (float): Factor of the auxiliary losses; 0 for no auxiliary
            output. Defaults to 0.2.
        dropout_ratio (float): Dropout of single values before the classes,
            of both outputs. Defaults to 0.1.
        norm_cfg (dict, optional): Norm of the decoder and the outputs, None
            for none. Defaults to ``dict(type='BN')``; with several GPUs
            ``dict(type='SyncBN')``.
        with_project (bool): 1x1 convolution in the fusion blocks. Defaults
            to True.
        loss_decode (dict or Sequence[dict]): Losses of both outputs.
            Defaults to ``dict(type='mmseg.CrossEntropyLoss')``.
        interpolation (str): 'bilinear' or 'bicubic', for logits that are not
            of the size of the network input. Defaults to 'bilinear'.
        in_index (Sequence[int]): Which outputs of the backbone are the taps.
            Defaults to (0, 1, 2, 3).
        **kwargs (Any): ``ignore_index``, ``sampler``, ``align_corners``,
            ``init_cfg``; see mmseg.

    Raises:
        ValueError: If an option has an unknown value.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        levels: Sequence[str] = ('tokens',) * 4,
        reassemble_channels: Optional[Sequence[int]] = None,
        channels: int = 256,
        readout: str = 'project',
        patch_size: int = 16,
        aux_weight: float = 0.2,
        dropout_ratio: float = 0.1,
        norm_cfg: Optional[dict] = _BN,
        with_project: bool = True,
        loss_decode: Union[dict, Sequence[dict]] = _LOSS,
        interpolation: str = 'bilinear',
        in_index: Sequence[int] = (0, 1, 2, 3),
        **kwargs: Any,
    ) -> None:
        if interpolation not in INTERPOLATIONS:
            raise UserValueError(
                f'DPTSegHead: interpolation={interpolation!r}, choose from '
                f'{INTERPOLATIONS}'
            )
        if aux_weight < 0:
            raise UserValueError(
                f'DPTSegHead: aux_weight={aux_weight} is below 0'
            )
        decoder = DPTDecoder(
            in_channels,
            levels=levels,
            reassemble_channels=reassemble_channels,
            channels=channels,
            readout=readout,
            patch_size=patch_size,
            norm_cfg=norm_cfg,
            with_project=with_project,
        )
        outputs = ['conv_seg', 'aux_seg'] if aux_weight else ['conv_seg']
        kwargs.setdefault(
            'init_cfg',
            dict(
                type='Normal',
                std=0.01,
                override=[dict(name=name) for name in outputs],
            ),
        )
        super().__init__(
            in_channels=in_channels,
            channels=channels,
            num_classes=num_classes,
            dropout_ratio=dropout_ratio,
            norm_cfg=norm_cfg,
            in_index=in_index,
            input_transform='multiple_select',
            loss_decode=loss_decode,
            **kwargs,
        )
        if dropout_ratio > 0:
            # the base drops whole channels
            self.dropout = nn.Dropout(dropout_ratio)
        self.aux_weight = aux_weight
        self.interpolation = interpolation
        self.decoder = decoder
        self.conv_out = self._output_conv()
        self.aux_out: Optional[nn.Module] = None
        if aux_weight:
            self.aux_out = self._output_conv()
            self.aux_seg = nn.Conv2d(channels, self.out_channels, 1)

    def _output_conv(self) -> nn.Module:
        return ConvModule(
            self.channels,
            self.channels,
            3,
            padding=1,
            norm_cfg=self.norm_cfg,
            act_cfg=dict(type='ReLU'),
        )

    def forward(self, inputs: Sequence[Any]) -> Tensor:
        """Logits of the main output.

        Args:
            inputs (Sequence): Outputs of the backbone: tokens or maps.

        Returns:
            Tensor: ``(B, num_classes, H, W)`` of stride 1.
        """
        return self.classify(self.fuse(inputs)[-1])

    def fuse(self, inputs: Sequence[Any]) -> List[Tensor]:
        """Outputs of the fusion blocks.

        Args:
            inputs (Sequence): Outputs of the backbone: tokens or maps.

        Returns:
            List[Tensor]: ``(B, channels, h, w)`` of strides 16, 8, 4 and 2.
        """
        fused: List[Tensor] = self.decoder(self._transform_inputs(inputs))
        return fused

    def classify(self, fused: Tensor) -> Tensor:
        """Main output of a fused map.

        Args:
            fused (Tensor): ``(B, channels, h, w)``.

        Returns:
            Tensor: Logits ``(B, num_classes, 2h, 2w)``.
        """
        return double_size(self.cls_seg(self.conv_out(fused)))

    def classify_aux(self, fused: Tensor) -> Tensor:
        """Auxiliary output of a fused map.

        Args:
            fused (Tensor): ``(B, channels, h, w)``.

        Returns:
            Tensor: Logits ``(B, num_classes, h, w)``.
        """
        assert self.aux_out is not None
        x = self.aux_out(fused)
        if self.dropout is not None:
            x = self.dropout(x)
        logits: Tensor = self.aux_seg(x)
        return logits

    def loss(
        self,
        inputs: Sequence[Any],
        batch_data_samples: SampleList,
        train_cfg: ConfigType = None,
    ) -> Dict[str, Tensor]:
        """Losses of both outputs.

        Args:
            inputs (Sequence): Outputs of the backbone: tokens or maps.
            batch_data_samples (List[SegDataSample]): With ``gt_sem_seg``.
            train_cfg (dict, optional): Unused. Defaults to None.

        Returns:
            Dict[str, Tensor]: Those of the main output under the names of
            ``loss_decode`` and ``acc_seg``; with an auxiliary output its
            weighted ones, ``loss_aux_ce`` for ``loss_ce``.
        """
        fused = self.fuse(inputs)
        losses: Dict[str, Tensor] = self.loss_by_feat(
            self.classify(fused[-1]), batch_data_samples
        )
        if self.aux_out is None:
            return losses
        aux = self.loss_by_feat(
            self.classify_aux(fused[-2]), batch_data_samples
        )
        for name, value in aux.items():
            if name.startswith('loss'):
                name = 'loss_aux_' + name[len('loss') :].lstrip('_')
                losses[name] = self.aux_weight * value
        return losses

    def predict_by_feat(
        self, seg_logits: Tensor, batch_img_metas: List[dict]
    ) -> Tensor:
        """Logits of the size of the network input.

        Args:
            seg_logits (Tensor): ``(B, num_classes, h, w)``.
            batch_img_metas (List[dict]): Of the first counts ``img_shape``
                if it is a ``torch.Size`` (slide inference), else
                ``pad_shape``, else ``img_shape``, as in mmseg.

        Returns:
            Tensor: ``(B, num_classes, H, W)``.
        """
        size = _input_size(batch_img_metas[0])
        if tuple(seg_logits.shape[2:]) == size:
            return seg_logits
        return F.interpolate(
            seg_logits,
            size=size,
            mode=self.interpolation,
            align_corners=self.align_corners,
        )


def _input_size(meta: Dict[str, Any]) -> Tuple[int, ...]:
    shape = meta['img_shape']
    # a torch.Size is that of a window
    if not isinstance(shape, torch.Size):
        shape = meta.get('pad_shape', shape)
    return tuple(shape[:2])
