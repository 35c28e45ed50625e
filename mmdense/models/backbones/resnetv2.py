"""ResNet with standardised weights, the stem of a hybrid ViT."""

import math
from typing import Any, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

STAGE_CHANNELS = (256, 512, 1024, 2048)
_STEM_CHANNELS = 64
_GROUPS = 32


def same_padding(size: int, kernel: int, stride: int) -> Tuple[int, int]:
    """Zeros at both ends so that the output has ``ceil(size / stride)``.

    Args:
        size (int): Input length.
        kernel (int): Kernel length.
        stride (int): Stride.

    Returns:
        Tuple[int, int]: Before and after; an odd rest goes to the end, as in
        TensorFlow, where the public weights come from.
    """
    total = (math.ceil(size / stride) - 1) * stride + kernel - size
    total = max(total, 0)
    return total // 2, total - total // 2


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    height, width = int(x.shape[2]), int(x.shape[3])
    top, bottom = same_padding(height, kernel, stride)
    left, right = same_padding(width, kernel, stride)
    if not (top or bottom or left or right):
        return x
    return F.pad(x, (left, right, top, bottom))


class StandardizedConv2d(nn.Conv2d):
    """Convolution with standardised filters and "same" padding.

    A filter ``w`` acts as ``(w - mean) / (std + eps)`` with the biased
    standard deviation. The padding depends on the input's size, see
    :func:`same_padding`.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Filters.
        kernel_size (int): Side of the square kernel.
        stride (int): Stride. Defaults to 1.
        eps (float): Added to the standard deviation. Defaults to 1e-5.

    Sources: Qiao et al., arXiv 1903.10520; rounding as in timm 0.4.5, which
    the released DPT files were trained with (newer versions divide by
    ``sqrt(var + eps)``).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, bias=False
        )
        self.eps = eps
        self._is_standardized = False

    def freeze_standardized(self) -> None:
        """Put the standardised filters in place of the weights, for export.

        The module can then neither be trained nor loaded any more.
        """
        if not self._is_standardized:
            fixed = self.standardized_weight().detach()
            self.weight = nn.Parameter(fixed, requires_grad=False)
            self._is_standardized = True

    def standardized_weight(self) -> Tensor:
        """Filters as they are applied, shape of ``weight``."""
        if self._is_standardized:
            return self.weight
        std, mean = torch.std_mean(
            self.weight, dim=(1, 2, 3), keepdim=True, unbiased=False
        )
        return (self.weight - mean) / (std + self.eps)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x (Tensor): ``(B, in_channels, H, W)``.

        Returns:
            Tensor: ``(B, out_channels, ceil(H / stride), ceil(W / stride))``.
        """
        kernel, stride = self.kernel_size[0], self.stride[0]
        weight = self.standardized_weight()
        if stride == 1:
            # symmetric for odd kernels: no copy of the input
            return F.conv2d(x, weight, None, 1, kernel // 2)
        return F.conv2d(_pad_same(x, kernel, stride), weight, None, stride)


class _ConvNorm(nn.Module):
    """Convolution and norm of the shortcut and of the first layer."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        self.conv = StandardizedConv2d(
            in_channels, out_channels, kernel, stride
        )
        self.norm = nn.GroupNorm(_GROUPS, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class _Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions; norm and ReLU behind, ReLU after the sum."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: bool
    ) -> None:
        super().__init__()
        width = out_channels // 4
        self.downsample: Optional[_ConvNorm] = None
        if shortcut:
            self.downsample = _ConvNorm(in_channels, out_channels, 1, stride)
        self.conv1 = StandardizedConv2d(in_channels, width, 1)
        self.norm1 = nn.GroupNorm(_GROUPS, width)
        self.conv2 = StandardizedConv2d(width, width, 3, stride)
        self.norm2 = nn.GroupNorm(_GROUPS, width)
        self.conv3 = StandardizedConv2d(width, out_channels, 1)
        self.norm3 = nn.GroupNorm(_GROUPS, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        x = F.relu(self.norm2(self.conv2(x)), inplace=True)
        return F.relu(self.norm3(self.conv3(x)) + identity, inplace=True)


class _Stage(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, depth: int, stride: int
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                _Bottleneck(
                    out_channels if i else in_channels,
                    out_channels,
                    1 if i else stride,
                    shortcut=i == 0,
                )
                for i in range(depth)
            )
        )


class ResNetV2Stem(BaseModule):
    """ResNet of the BiT family with activations *behind* the norms.

    A 7x7 convolution with stride 2, GroupNorm, ReLU and max-pooling, then
    stages of 256, 512 and 1024 channels at strides 4, 8 and 16. All
    convolutions are :class:`StandardizedConv2d`, all norms GroupNorm of 32
    groups (eps 1e-5). Parameter names are those of timm below
    ``patch_embed.backbone``.

    Args:
        layers (Sequence[int]): Blocks per stage, one to four stages.
            Defaults to (3, 4, 9).
        in_channels (int): Channels of the image. Defaults to 3.
        with_cp (bool): Recompute activations in the backward pass. Defaults
            to False.

    Raises:
        ValueError: If ``layers`` is empty, too long or holds no block.

    Sources: Kolesnikov et al., arXiv 1912.11370; Dosovitskiy et al., arXiv
    2010.11929 (R50+ViT). The DPT paper calls it pre-activation, its released
    weights are not.
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 9),
        in_channels: int = 3,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= len(layers) <= len(STAGE_CHANNELS) or min(layers) < 1:
            raise ValueError(
                f'layers={tuple(layers)} must give the blocks, at least one '
                f'each, of 1 to {len(STAGE_CHANNELS)} stages.'
            )
        self.with_cp = with_cp
        self.out_channels = STAGE_CHANNELS[: len(layers)]
        self.stem = _ConvNorm(in_channels, _STEM_CHANNELS, 7, 2)
        widths = (_STEM_CHANNELS, *self.out_channels)
        self.stages = nn.ModuleList(
            _Stage(widths[i], widths[i + 1], depth, 2 if i else 1)
            for i, depth in enumerate(layers)
        )

    def forward(self, x: Tensor) -> List[Tensor]:
        """Maps of all stages.

        Args:
            x (Tensor): Images ``(B, C, H, W)``.

        Returns:
            List[Tensor]: ``(B, 256 * 2^i, ceil(H / s), ceil(W / s))`` with
            ``s = 4 * 2^i``.
        """
        x = F.relu(self.stem(x), inplace=True)
        # zeros are neutral: nothing is negative behind a ReLU
        x = F.max_pool2d(_pad_same(x, 3, 2), 3, 2)
        outs = []
        for stage in self.stages:
            blocks: Any = stage.blocks
            for block in blocks:
                if self.with_cp and torch.is_grad_enabled():
                    x = checkpoint(block, x, use_reentrant=False)
                else:
                    x = block(x)
            outs.append(x)
        return outs
