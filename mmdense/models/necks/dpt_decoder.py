"""Decoder of DPT: tokens or maps of four layers to fused maps."""

from typing import Any, List, Optional, Sequence, Union

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdense.registry import MODELS
from mmdense.utils.errors import UserValueError

from ..backbones.tokens import Tokens, as_tokens
from .dpt_blocks import DPTReassemble, FeatureFusion

KINDS = ('tokens', 'map')
# strides of the four levels on patches of 16
_FACTORS = (4.0, 2.0, 1.0, 0.5)
_TOKEN_CHANNELS = (96, 192, 384, 768)


@MODELS.register_module()
class DPTDecoder(BaseModule):
    """Reassemble four taps of a backbone and fuse them, coarse to fine.

    Levels run from fine to coarse: strides 4, 8, 16 and 32. A level of kind
    'tokens' is reassembled from the tokens of a ViT layer, one of kind 'map'
    (stages of a ResNet or Swin, stem of a hybrid ViT) is used as it is. A
    3x3 convolution brings each to ``channels``, then four fusion blocks
    double the size each.

    The coarsest block has no skip map, therefore no first residual unit:
    official files hold one that is never used.

    Sources: [0] Ranftl et al., Vision Transformers for Dense Prediction,
    2021. [1] isl-org/DPT (widths per level, order of operations).
    [2] Ranftl et al., Towards Robust Monocular Depth Estimation, 2020
    (``with_project=False``).

    Args:
        in_channels (Sequence[int]): Channels of the four taps.
        levels (Sequence[str]): Kind of each tap, 'tokens' or 'map'. Defaults
            to four times 'tokens'.
        reassemble_channels (Sequence[int], optional): Channels of the
            reassembled maps; of a 'map' level always those of the map. None
            for (96, 192, 384, 768), with the channels of the maps in their
            places. Defaults to None.
        channels (int): Width of the fusion. Defaults to 256.
        readout (str): What is done with the class token: 'project', 'add' or
            'ignore', see :class:`DPTReassemble`. Defaults to 'project'.
        patch_size (int): Patch side of the ViT; 8 or 32 change the
            resampling such that the strides stay, other values use that of
            16 (strides in quarters of the patch). Defaults to 16.
        norm_cfg (dict, optional): Norm of the residual units. None for none
            (depth); ``dict(type='BN')`` or SyncBN for segmentation. Defaults
            to None.
        with_project (bool): 1x1 convolution at the end of each fusion block;
            False is the decoder of MiDaS. Defaults to True.
        init_cfg (dict, optional): Initialisation. Defaults to None: that of
            PyTorch.

    Raises:
        ValueError: If the number of levels is not four, or kinds or channels
            are not possible.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        levels: Sequence[str] = ('tokens',) * 4,
        reassemble_channels: Optional[Sequence[int]] = None,
        channels: int = 256,
        readout: str = 'project',
        patch_size: int = 16,
        norm_cfg: Optional[dict] = None,
        with_project: bool = True,
        init_cfg: Optional[Union[dict, List[dict]]] = None,
    ) -> None:
        super().__init__(init_cfg)
        widths = _level_widths(in_channels, levels, reassemble_channels)
        scale = patch_size / 16 if patch_size in (8, 32) else 1.0
        self.levels = tuple(levels)
        self.channels = channels
        self.reassemble = nn.ModuleList(
            DPTReassemble(wide, width, factor * scale, readout)
            if kind == 'tokens'
            else nn.Identity()
            for kind, wide, width, factor in zip(
                levels, in_channels, widths, _FACTORS
            )
        )
        self.lateral = nn.ModuleList(
            nn.Conv2d(width, channels, 3, padding=1, bias=False)
            for width in widths
        )
        self.fusion = nn.ModuleList(
            FeatureFusion(channels, norm_cfg, block > 0, with_project)
            for block in range(len(widths))
        )

    def reassembled(
        self, inputs: Sequence[Union[Tokens, Tensor]]
    ) -> List[Tensor]:
        """Maps of strides 4, 8, 16 and 32 before their 3x3 convolutions.

        Args:
            inputs (Sequence): Per level :class:`Tokens`, or a map
                ``(B, C, H, W)`` (also for a 'tokens' level with
                ``readout='ignore'``).

        Returns:
            List[Tensor]: ``(B, reassemble_channels, h, w)``, fine to coarse.

        Raises:
            ValueError: If an input is not of its level's kind.
        """
        if len(inputs) != len(self.levels):
            raise UserValueError(
                f'DPT: {len(self.levels)} levels, but the backbone gives '
                f'{len(inputs)} outputs; set four out_indices'
            )
        maps = []
        pairs = zip(self.levels, self.reassemble, inputs)
        for index, (kind, module, given) in enumerate(pairs):
            if kind == 'tokens':
                given = as_tokens(given)
                self._check_width(index, given.patches.shape[-1])
            elif not isinstance(given, Tensor):
                raise UserValueError(
                    f'DPT: levels[{index}]="map", but the backbone gives '
                    f'{type(given).__name__} there; set it to "tokens"'
                )
            maps.append(module(given))
        return maps

    def _check_width(self, index: int, got: int) -> None:
        want: Any = self.reassemble[index].in_channels
        if got != want:
            raise UserValueError(
                f'DPT: in_channels[{index}]={want}, but the tokens of the '
                f'backbone have {got} channels'
            )

    def forward(self, inputs: Sequence[Union[Tokens, Tensor]]) -> List[Tensor]:
        """Fused maps.

        Args:
            inputs (Sequence): See :meth:`reassembled`.

        Returns:
            List[Tensor]: ``(B, channels, h, w)``, coarse to fine: strides
            16, 8, 4 and 2.
        """
        maps = self.reassembled(inputs)
        maps = [conv(x) for conv, x in zip(self.lateral, maps)]
        x = self.fusion[0](maps[-1])
        outputs = [x]
        for fuse, skip in zip(list(self.fusion)[1:], maps[-2::-1]):
            x = fuse(x, skip)
            outputs.append(x)
        return outputs


def _level_widths(
    in_channels: Sequence[int],
    levels: Sequence[str],
    reassemble_channels: Optional[Sequence[int]],
) -> List[int]:
    """Channels of the reassembled maps, checked."""
    bad = [kind for kind in levels if kind not in KINDS]
    if bad:
        raise UserValueError(
            f'DPT: levels has {bad[0]!r}, choose from {KINDS}'
        )
    given = dict(in_channels=in_channels, levels=levels)
    if reassemble_channels is not None:
        given['reassemble_channels'] = reassemble_channels
    for name, value in given.items():
        if not isinstance(value, (list, tuple)) or len(value) != 4:
            raise UserValueError(
                f'DPT: {name}={value} must have four entries, from stride 4 '
                'to stride 32'
            )
    widths = list(reassemble_channels or _TOKEN_CHANNELS)
    for index, kind in enumerate(levels):
        if kind != 'map':
            continue
        if reassemble_channels and widths[index] != in_channels[index]:
            raise UserValueError(
                f'DPT: levels[{index}]="map" is not reassembled: '
                f'reassemble_channels[{index}]={widths[index]} must equal '
                f'in_channels[{index}]={in_channels[index]}'
            )
        widths[index] = in_channels[index]
    return widths
