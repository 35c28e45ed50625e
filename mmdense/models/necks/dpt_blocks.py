"""Parts of the DPT decoder: reassembling tokens, fusing maps."""

from typing import Optional

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from mmdense.utils.errors import UserValueError

from ..backbones.tokens import Tokens

READOUTS = ('project', 'add', 'ignore')


class DPTReassemble(nn.Module):
    r"""From the tokens of one layer to a map of a chosen stride.

    Readout, 1x1 convolution, resampling. The readout puts the extra tokens
    into the patches: ``'ignore'`` drops them, ``'add'`` adds their mean,
    ``'project'`` takes :math:`GELU(W [patch; class] + b)`, of two extra
    tokens only the class token.

    Sources: [0] Ranftl et al., Vision Transformers for Dense Prediction,
    2021, section 3.1. [1] isl-org/DPT (kernel = stride in the enlarging
    transposed convolution, which the paper calls 3x3).

    Args:
        in_channels (int): Channels D of the tokens.
        out_channels (int): Channels of the map.
        factor (float): Size of the map relative to the patch grid: a whole
            number (transposed convolution), 1 (nothing) or 1 over a whole
            number (3x3 convolution). Defaults to 1.
        readout (str): ``'project'``, ``'add'`` or ``'ignore'``. Defaults to
            ``'project'``.

    Raises:
        ValueError: If ``readout`` or ``factor`` is not possible.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        factor: float = 1.0,
        readout: str = 'project',
    ) -> None:
        super().__init__()
        if readout not in READOUTS:
            raise UserValueError(
                f'DPT: readout={readout!r}, choose from {READOUTS}'
            )
        stride = round(max(factor, 1 / factor)) if factor > 0 else 0
        if stride < 1 or factor not in (stride, 1 / stride):
            raise UserValueError(
                f'DPT: factor={factor} of a level is neither a whole number '
                'nor 1 over one'
            )
        self.mode = readout
        self.in_channels = in_channels
        self.readout: Optional[nn.Linear] = None
        if readout == 'project':
            self.readout = nn.Linear(2 * in_channels, in_channels)
        self.project = nn.Conv2d(in_channels, out_channels, 1)
        self.resample: Optional[nn.Module] = None
        if factor > 1:
            self.resample = nn.ConvTranspose2d(
                out_channels, out_channels, stride, stride=stride
            )
        elif factor < 1:
            self.resample = nn.Conv2d(
                out_channels, out_channels, 3, stride=stride, padding=1
            )

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens to a map.

        Args:
            tokens (Tokens): ``N = H * W`` patches, with a class token unless
                the readout is ``'ignore'``.

        Returns:
            Tensor: ``(B, out_channels, factor * H, factor * W)``; H and W
            are rounded up where ``factor`` is below 1.

        Raises:
            ValueError: If the readout needs a class token and there is none.
        """
        patches = self.read(tokens)
        # A 1x1 convolution on tokens. The gradient that reaches the GELU is
        # then contiguous; torch 2.1 gives garbage on CPU for others.
        x = F.linear(
            patches, self.project.weight.flatten(1), self.project.bias
        )
        height, width = tokens.hw
        x = x.reshape(x.shape[0], height, width, -1).permute(0, 3, 1, 2)
        return x if self.resample is None else self.resample(x)

    def read(self, tokens: Tokens) -> Tensor:
        """Patches with the extra tokens read into them.

        Args:
            tokens (Tokens): Tokens of a layer.

        Returns:
            Tensor: ``(B, N, D)``.

        Raises:
            ValueError: If a class token is needed and missing.
        """
        patches = tokens.patches
        if self.mode == 'ignore':
            return patches
        if tokens.cls is None:
            raise UserValueError(
                f'DPT: readout={self.mode!r} needs a class token, but the '
                'backbone gives patches alone. Set readout="ignore" in the '
                'head, or with_cls_token=True and out_type="tokens" in the '
                'backbone.'
            )
        extra = tokens.cls
        if self.readout is not None:
            # W [patch; class] = W_p patch + W_c class: half the products
            weight = self.readout.weight
            own, other = weight.split(self.in_channels, dim=1)
            shared = F.linear(extra, other, self.readout.bias)
            return F.gelu(F.linear(patches, own) + shared[:, None])
        if tokens.dist is not None:
            extra = (extra + tokens.dist) / 2
        return patches + extra[:, None]


class PreActResidualUnit(nn.Module):
    """``x + norm(conv(relu(norm(conv(relu(x))))))``, convolutions 3x3.

    Args:
        channels (int): Channels.
        norm_cfg (dict, optional): Config of the norms. None for no norm and
            convolutions with bias. Defaults to None.
    """

    def __init__(self, channels: int, norm_cfg: Optional[dict] = None) -> None:
        super().__init__()
        bias = norm_cfg is None
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.norm1: Optional[nn.Module] = None
        self.norm2: Optional[nn.Module] = None
        if norm_cfg is not None:
            self.norm1 = build_norm_layer(norm_cfg, channels)[1]
            self.norm2 = build_norm_layer(norm_cfg, channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit.

        Args:
            x (Tensor): ``(B, C, H, W)``, not changed.

        Returns:
            Tensor: The same shape.
        """
        y = self.conv1(F.relu(x))
        if self.norm1 is not None:
            y = self.norm1(y)
        y = self.conv2(F.relu(y, inplace=True))
        if self.norm2 is not None:
            y = self.norm2(y)
        return x + y


class FeatureFusion(nn.Module):
    """Fuse a coarse map with a skip map and double its size.

    ``Up2(Conv1(Unit2(x + Unit1(skip))))``, Up2 bilinear with aligned
    corners. The official code has the 1x1 convolution after Up2; the two
    commute, as the weights of bilinear interpolation add up to one, and here
    it costs a quarter.

    Args:
        channels (int): Channels of both maps and of the output.
        norm_cfg (dict, optional): Norm in the residual units, see
            :class:`PreActResidualUnit`. Defaults to None.
        with_skip (bool): Whether there is a skip map; without one there is no
            Unit1. Defaults to True.
        with_project (bool): Whether there is a Conv1. Defaults to True.
    """

    def __init__(
        self,
        channels: int,
        norm_cfg: Optional[dict] = None,
        with_skip: bool = True,
        with_project: bool = True,
    ) -> None:
        super().__init__()
        self.unit1: Optional[nn.Module] = None
        if with_skip:
            self.unit1 = PreActResidualUnit(channels, norm_cfg)
        self.unit2 = PreActResidualUnit(channels, norm_cfg)
        self.project: Optional[nn.Module] = None
        if with_project:
            self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, skip: Optional[Tensor] = None) -> Tensor:
        """Fuse and enlarge.

        Args:
            x (Tensor): Coarse map ``(B, C, H, W)``.
            skip (Tensor, optional): Map of the backbone; resized to the size
                of ``x`` if it has another one (odd grids). None exactly if
                the block was made without skip. Defaults to None.

        Returns:
            Tensor: ``(B, C, 2H, 2W)``.
        """
        if self.unit1 is not None:
            assert skip is not None
            if skip.shape[2:] != x.shape[2:]:
                skip = F.interpolate(
                    skip,
                    size=x.shape[2:],
                    mode='bilinear',
                    align_corners=False,
                )
            x = x + self.unit1(skip)
        x = self.unit2(x)
        if self.project is not None:
            x = self.project(x)
        return double_size(x)


def double_size(x: Tensor) -> Tensor:
    """Bilinear enlargement by 2 with aligned corners.

    Args:
        x (Tensor): ``(B, C, H, W)``.

    Returns:
        Tensor: ``(B, C, 2H, 2W)``.
    """
    return F.interpolate(
        x, scale_factor=2, mode='bilinear', align_corners=True
    )
