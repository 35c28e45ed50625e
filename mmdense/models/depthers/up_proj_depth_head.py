"""Depth head of up-projection blocks (FCRN)."""

from typing import Any, Callable, Dict, Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdense.registry import MODELS

from .base_depth_head import BaseDepthHead


class UnpoolConv2d(nn.Conv2d):
    """Zero-unpooling by 2, then an odd convolution, in one step.

    Zero-unpooling puts every value at the top left of a 2x2 cell of zeros.
    A convolution of such a map is a transposed convolution of stride 2 with
    the mirrored kernel, which never multiplies the zeros. Weights keep the
    layout of the plain convolution.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels.
        kernel_size (int): Odd. Defaults to 5.
        bias (bool): Whether there is a bias. Defaults to False.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 5,
        bias: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            padding=kernel_size // 2,
            bias=bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Double the resolution.

        Args:
            x (Tensor): ``(B, C, H, W)``.

        Returns:
            Tensor: ``(B, C', 2H, 2W)``.
        """
        # (C', C, k, k) -> (C, C', k, k), mirrored
        weight = self.weight.transpose(0, 1).flip(2, 3)
        return F.conv_transpose2d(
            x,
            weight,
            self.bias,
            stride=2,
            padding=self.kernel_size[0] // 2,
            output_padding=1,
        )


class UpProjBlock(BaseModule):
    """Up-projection: a residual block that doubles the resolution.

    With u the zero-unpooled input: ``a = BN(conv3x3(ReLU(BN(conv5x5(u)))))``,
    ``b = BN(conv5x5(u))``, output ``ReLU(a + b)``. Both 5x5 convolutions are
    one of twice the width (``conv5``: first half a, second half b).

    Sources: [0] Laina et al., Deeper Depth Prediction with Fully
    Convolutional Residual Networks, 2016, section 3.2.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels.
        norm_cfg (dict): Config of the norms.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm_cfg: dict
    ) -> None:
        super().__init__()
        self.conv5 = UnpoolConv2d(in_channels, 2 * out_channels, 5)
        self.norm5 = build_norm_layer(norm_cfg, 2 * out_channels)[1]
        self.conv3 = nn.Conv2d(
            out_channels, out_channels, 3, padding=1, bias=False
        )
        self.norm3 = build_norm_layer(norm_cfg, out_channels)[1]
        for conv in (self.conv5, self.conv3):
            nn.init.kaiming_normal_(
                conv.weight, mode='fan_in', nonlinearity='relu'
            )

    def forward(self, x: Tensor) -> Tensor:
        """Double the resolution.

        Args:
            x (Tensor): ``(B, C, H, W)``.

        Returns:
            Tensor: ``(B, C', 2H, 2W)``.
        """
        a, b = self.norm5(self.conv5(x)).chunk(2, dim=1)
        return (self.norm3(self.conv3(a.relu())) + b).relu()


def deconv_block(
    in_channels: int, out_channels: int, norm_cfg: dict
) -> nn.Sequential:
    """Transposed convolution 4x4 of stride 2, norm, ReLU.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels.
        norm_cfg (dict): Config of the norm.

    Returns:
        nn.Sequential: Doubles the resolution.
    """
    return nn.Sequential(
        nn.ConvTranspose2d(
            in_channels, out_channels, 4, stride=2, padding=1, bias=False
        ),
        build_norm_layer(norm_cfg, out_channels)[1],
        nn.ReLU(inplace=True),
    )


@MODELS.register_module()
class UpProjDepthHead(BaseDepthHead):
    """Up-sampling blocks from one map, then a 3x3 convolution to depth.

    Four blocks take the stride-16 map of a ViT to stride 1: the "linear"
    depth head of the local-to-global paper.

    Args:
        in_channels (int): Channels of the map.
        channels (Sequence[int]): Channels of the blocks, each doubling the
            resolution. Defaults to (512, 256, 128, 64).
        block (str): 'upproj' or 'deconv' (transposed convolution 4x4 of
            stride 2, norm, ReLU). Defaults to 'upproj'.
        in_index (int): Which map to take. Defaults to -1.
        **kwargs (Any): See :class:`BaseDepthHead`.

    Raises:
        ValueError: If ``block`` is unknown or there is no block.
    """

    BLOCKS: Dict[str, Callable[..., nn.Module]] = {
        'upproj': UpProjBlock,
        'deconv': deconv_block,
    }

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] = (512, 256, 128, 64),
        block: str = 'upproj',
        in_index: int = -1,
        **kwargs: Any,
    ) -> None:
        if block not in self.BLOCKS:
            raise ValueError(
                f'UpProjDepthHead: block={block!r}, choose from '
                f'{tuple(self.BLOCKS)}'
            )
        if not channels:
            raise ValueError('UpProjDepthHead: channels is empty')
        kwargs.setdefault('out_kernel', 3)
        super().__init__(
            in_channels=in_channels,
            channels=channels[-1],
            in_index=in_index,
            **kwargs,
        )
        widths = [in_channels, *channels]
        self.blocks = nn.Sequential(
            *(
                self.BLOCKS[block](wide, narrow, self.norm_cfg)
                for wide, narrow in zip(widths[:-1], widths[1:])
            )
        )

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        """Stride-16 map ``(B, C, h, w)`` to ``(B, C', 16h, 16w)``."""
        x: torch.Tensor = self._transform_inputs(inputs)
        return self.blocks(x)
