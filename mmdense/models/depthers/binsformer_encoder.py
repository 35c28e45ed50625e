"""Pixel half of BinsFormer: deformable encoder and pixel decoder."""

import math
from typing import Any, List, Optional, Sequence, Tuple

import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks.transformer import (
    BaseTransformerLayer,
    MultiScaleDeformableAttention,
)
from mmengine.model import BaseModule, ModuleList
from mmseg.models.utils import resize
from torch import Tensor, nn

from mmdense.utils.mmcv_ext.ms_deform_attn import deformable_attention

_LEAKY = dict(type='LeakyReLU', inplace=True)


def sine_positions(
    height: int, width: int, channels: int, device: Any = None
) -> Tensor:
    r"""Sine embedding of the pixels of a map, rows in the first half.

    The position :math:`p` of a row (column), counted from 1 and divided so
    that the last is :math:`2\pi`, gives :math:`\sin(p / 10000^{2i / C})` and
    :math:`\cos` of the same at channels :math:`2i` and :math:`2i + 1` of
    :math:`C` = ``channels / 2``.

    Source: Carion et al., End-to-End Object Detection with Transformers,
    2020, section A.4.

    Args:
        height (int): Rows.
        width (int): Columns.
        channels (int): Size of the embedding, a multiple of 4.
        device (torch.device, optional): Where. Defaults to None.

    Returns:
        Tensor: ``(height * width, channels)``, float32.
    """
    half = channels // 2
    order = torch.arange(0, half, 2, dtype=torch.float32, device=device)
    speed = 10000 ** (order / half)

    def axis(size: int) -> Tensor:
        place = torch.arange(1, size + 1, dtype=torch.float32, device=device)
        angle = place[:, None] * (2 * math.pi / size) / speed
        return torch.stack((angle.sin(), angle.cos()), dim=2).flatten(1)

    rows = axis(height)[:, None].expand(-1, width, -1)
    columns = axis(width)[None].expand(height, -1, -1)
    return torch.cat((rows, columns), dim=2).flatten(0, 1)


class DeformableAttention(MultiScaleDeformableAttention):
    """mmcv's deformable attention, on map sizes that the host knows.

    The stock forward pass reads the sizes of the levels from the device in
    every call, and computes the sampling positions in half precision where
    the values are. Parameters and initialisation are those of mmcv.
    """

    def forward(
        self,
        query: Tensor,
        key: Optional[Tensor] = None,
        value: Optional[Tensor] = None,
        identity: Optional[Tensor] = None,
        query_pos: Optional[Tensor] = None,
        reference_points: Optional[Tensor] = None,
        level_sizes: Sequence[Tuple[int, int]] = (),
        offset_scale: Optional[Tensor] = None,
        **kwargs: Any,
    ) -> Tensor:
        """Attend to a few points around the place of each query.

        Args:
            query (Tensor): ``(B, Q, C)``.
            key (Tensor, optional): Not used. Defaults to None.
            value (Tensor, optional): Pixels of all levels ``(B, S, C)``;
                None for the queries. Defaults to None.
            identity (Tensor, optional): Added to the result; None for the
                queries. Defaults to None.
            query_pos (Tensor, optional): ``(B, Q, C)`` or ``(1, Q, C)``,
                added to the queries. Defaults to None.
            reference_points (Tensor): Places ``(x, y)`` of the queries in
                [0, 1], ``(Q, 2)``.
            level_sizes (Sequence[Tuple[int, int]]): ``(height, width)`` of
                each level.
            offset_scale (Tensor): One pixel of each level in units of the
                map, ``(L, 2)`` with ``(1 / width, 1 / height)``.
            **kwargs (Any): Not used.

        Returns:
            Tensor: ``(B, Q, C)``.
        """
        assert reference_points is not None and offset_scale is not None
        value = query if value is None else value
        identity = query if identity is None else identity
        if query_pos is not None:
            query = query + query_pos
        batch, count = query.shape[:2]
        points = (batch, count, self.num_heads, self.num_levels, -1)
        weights = self.attention_weights(query)
        weights = weights.reshape(*points[:3], -1).softmax(dim=-1)
        offsets = self.sampling_offsets(query).reshape(*points, 2)
        locations = (
            reference_points[None, :, None, None, None]
            + offsets * offset_scale[:, None]
        )
        value = self.value_proj(value)
        output = deformable_attention(
            value.reshape(batch, value.shape[1], self.num_heads, -1),
            level_sizes,
            locations,
            weights.reshape(points),
        )
        return self.dropout(self.output_proj(output)) + identity


class DeformableEncoder(BaseModule):
    """Self-attention over the pixels of several maps at once.

    Each map goes through a 1x1 convolution; every pixel of every map then
    attends, in each layer, to a few learned points of all maps.

    Source: Zhu et al., Deformable DETR, 2021, section 4.1.

    Args:
        in_channels (Sequence[int]): Channels of the maps.
        channels (int): Width. Defaults to 256.
        num_layers (int): Number of layers. Defaults to 6.
        num_heads (int): Attention heads. Defaults to 8.
        num_points (int): Points per head and map. Defaults to 8.
        feedforward_channels (int): Width of the FFN. Defaults to 1024.
        dropout (float): After attention and in the FFN. Defaults to 0.1.
        norm_cfg (dict, optional): Norm of the convolutions; None for BN.
            Defaults to None.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 8,
        feedforward_channels: int = 1024,
        dropout: float = 0.1,
        norm_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__()
        self.projections = ModuleList(
            [
                ConvModule(
                    width,
                    channels,
                    1,
                    norm_cfg=norm_cfg or dict(type='BN'),
                    act_cfg=_LEAKY,
                )
                for width in in_channels
            ]
        )
        self.level_embed = nn.Embedding(len(in_channels), channels)
        self.layers = ModuleList(
            [
                BaseTransformerLayer(
                    attn_cfgs=dict(
                        type=DeformableAttention,
                        embed_dims=channels,
                        num_heads=num_heads,
                        num_levels=len(in_channels),
                        num_points=num_points,
                        dropout=dropout,
                    ),
                    ffn_cfgs=dict(
                        type='FFN',
                        embed_dims=channels,
                        feedforward_channels=feedforward_channels,
                        num_fcs=2,
                        ffn_drop=dropout,
                        act_cfg=dict(type='ReLU', inplace=True),
                    ),
                    operation_order=('self_attn', 'norm', 'ffn', 'norm'),
                    batch_first=True,
                )
                for _ in range(num_layers)
            ]
        )

    def forward(self, maps: Sequence[Tensor]) -> List[Tensor]:
        """Exchange information between all pixels.

        Args:
            maps (Sequence[Tensor]): ``(B, C_l, h_l, w_l)``.

        Returns:
            List[Tensor]: ``(B, channels, h_l, w_l)``.
        """
        projected = [conv(x) for conv, x in zip(self.projections, maps)]
        sizes = [(x.shape[2], x.shape[3]) for x in projected]
        device = projected[0].device
        query = torch.cat([x.flatten(2).transpose(1, 2) for x in projected], 1)
        position = [
            sine_positions(h, w, query.shape[2], device) + embed
            for (h, w), embed in zip(sizes, self.level_embed.weight)
        ]
        places = torch.cat([_pixel_centres(h, w, device) for h, w in sizes])
        steps = torch.stack([_pixel_size(h, w, device) for h, w in sizes])
        for layer in self.layers:
            query = layer(
                query,
                query_pos=torch.cat(position)[None],
                reference_points=places,
                level_sizes=sizes,
                offset_scale=steps,
            )
        parts = query.transpose(1, 2).split([h * w for h, w in sizes], dim=2)
        return [x.unflatten(2, size) for x, size in zip(parts, sizes)]


def _pixel_centres(height: int, width: int, device: Any) -> Tensor:
    """``(x, y)`` of each pixel in [0, 1], ``(height * width, 2)``."""
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    grid = (x[None].expand(height, -1), y[:, None].expand(-1, width))
    return torch.stack(grid, dim=2).flatten(0, 1)


def _pixel_size(height: int, width: int, device: Any) -> Tensor:
    """``(1 / width, 1 / height)``, filled on the device."""
    return torch.cat(
        [
            torch.full((1,), 1.0 / side, device=device)
            for side in (width, height)
        ]
    )


class PixelDecoder(BaseModule):
    """From an encoded map and maps of the backbone to one of stride 4.

    Every step adds the enlarged coarser map to a 1x1 convolution of the next
    finer one of the backbone and applies a 3x3 convolution.

    Args:
        in_channels (Sequence[int]): Channels of the maps, fine to coarse.
            The number of steps.
        channels (int): Width. Defaults to 256.
        norm_cfg (dict, optional): Norm of the convolutions; None for BN.
            Defaults to None.
        align_corners (bool): How maps are resized. Defaults to False.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        norm_cfg: Optional[dict] = None,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        norm_cfg = norm_cfg or dict(type='BN')
        self.align_corners = align_corners
        self.laterals = ModuleList()
        self.fusions = ModuleList()
        for width in in_channels:
            self.laterals.append(
                ConvModule(width, channels, 1, norm_cfg=norm_cfg, act_cfg=None)
            )
            self.fusions.append(
                ConvModule(
                    channels,
                    channels,
                    3,
                    padding=1,
                    norm_cfg=norm_cfg,
                    act_cfg=_LEAKY,
                )
            )

    def forward(self, coarse: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Fuse from coarse to fine.

        Args:
            coarse (Tensor): Where to start, ``(B, channels, h, w)``; resized
                to the coarsest of ``maps``.
            maps (Sequence[Tensor]): ``(B, C_l, h_l, w_l)``, fine to coarse.

        Returns:
            Tensor: ``(B, channels, h_0, w_0)``.
        """
        steps = list(zip(self.laterals, self.fusions, maps))
        for lateral, fusion, x in reversed(steps):
            skip = lateral(x)
            if coarse.shape[2:] != skip.shape[2:]:
                coarse = resize(
                    coarse,
                    size=skip.shape[2:],
                    mode='bilinear',
                    align_corners=self.align_corners,
                    warning=False,
                )
            coarse = fusion(skip + coarse)
        return coarse
