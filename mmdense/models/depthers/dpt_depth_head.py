"""Depth head of DPT."""

from typing import Any, Optional, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmdense.registry import MODELS

from ..necks.dpt_blocks import double_size
from ..necks.dpt_decoder import DPTDecoder
from .base_depth_head import BaseDepthHead


@MODELS.register_module()
class DPTDepthHead(BaseDepthHead):
    """DPT decoder, then three convolutions to depth at full resolution.

    3x3 to half the width, bilinear x2 with aligned corners, 3x3 to
    ``hidden_channels``, ReLU, 1x1 to one channel, output. With the default
    ``output='relative'`` it gives inverse depth up to scale and shift, not
    below 0; ``'inverse_affine'`` makes that metric, see
    :class:`DepthOutput`.

    Sources: [0] Ranftl et al., Vision Transformers for Dense Prediction,
    2021. [1] isl-org/DPT ``DPTDepthModel``.

    Args:
        in_channels (Sequence[int]): Channels of the four taps.
        levels (Sequence[str]): Kind of each tap, 'tokens' or 'map'. Defaults
            to four times 'tokens'.
        reassemble_channels (Sequence[int], optional): See
            :class:`DPTDecoder`. Defaults to None: (96, 192, 384, 768).
        channels (int): Width of the decoder. Defaults to 256.
        readout (str): 'project', 'add' or 'ignore'. Defaults to 'project'.
        patch_size (int): Patch side of the ViT. Defaults to 16.
        hidden_channels (int): Channels before the last convolution. Defaults
            to 32.
        output (str): See :class:`BaseDepthHead`. Defaults to 'relative'.
        norm_cfg (dict, optional): Norm of the residual units. Defaults to
            None: none.
        with_project (bool): 1x1 convolution in the fusion blocks; False is
            the decoder of MiDaS. Defaults to True.
        in_index (Sequence[int]): Which outputs of the backbone are the taps.
            Defaults to (0, 1, 2, 3).
        **kwargs (Any): See :class:`BaseDepthHead`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        levels: Sequence[str] = ('tokens',) * 4,
        reassemble_channels: Optional[Sequence[int]] = None,
        channels: int = 256,
        readout: str = 'project',
        patch_size: int = 16,
        hidden_channels: int = 32,
        output: str = 'relative',
        norm_cfg: Optional[dict] = None,
        with_project: bool = True,
        in_index: Sequence[int] = (0, 1, 2, 3),
        **kwargs: Any,
    ) -> None:
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
        super().__init__(
            in_channels=in_channels,
            channels=hidden_channels,
            output=output,
            in_index=in_index,
            input_transform='multiple_select',
            **kwargs,
        )
        self.norm_cfg = norm_cfg
        self.decoder = decoder
        half = channels // 2
        self.conv_half = nn.Conv2d(channels, half, 3, padding=1)
        self.conv_full = nn.Conv2d(half, hidden_channels, 3, padding=1)

    def _forward_feature(self, inputs: Sequence[Any]) -> Tensor:
        """Taps to a map ``(B, hidden_channels, H, W)`` of stride 1."""
        fused = self.decoder(self._transform_inputs(inputs))[-1]
        x = double_size(self.conv_half(fused))
        return F.relu(self.conv_full(x), inplace=True)
