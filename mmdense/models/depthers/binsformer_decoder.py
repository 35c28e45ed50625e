"""Query half of BinsFormer: transformer decoder, bins and depth."""

from typing import List, NamedTuple, Optional, Sequence

import torch
from mmcv.cnn.bricks.transformer import BaseTransformerLayer
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from .binsformer_encoder import sine_positions

LEVEL_ORDERS = ('//', '%')


def bin_centres(logits: Tensor, low: float, high: float) -> Tensor:
    """Centres of adjacent bins that fill a range.

    Args:
        logits (Tensor): ``(B, N)``; their softmax are the shares of the bins.
        low (float): Lower end of the range in metres.
        high (float): Upper end of the range in metres.

    Returns:
        Tensor: ``(B, N)`` in metres, ascending, float32.
    """
    with torch.autocast(logits.device.type, enabled=False):
        shares = logits.float().softmax(dim=1)
        return low + (high - low) * (shares.cumsum(dim=1) - shares / 2)


def expected_depth(
    features: Tensor, embeddings: Tensor, centres: Tensor
) -> Tensor:
    """Mean of the bin centres under a softmax over the bins at each pixel.

    Args:
        features (Tensor): ``(B, C, h, w)``.
        embeddings (Tensor): Of the bins, ``(B, N, C)``.
        centres (Tensor): ``(B, N)`` in metres.

    Returns:
        Tensor: ``(B, 1, h, w)`` in metres, float32.
    """
    with torch.autocast(features.device.type, enabled=False):
        pixels = features.float().flatten(2)
        share = torch.bmm(embeddings.float(), pixels).softmax(dim=1)
        depth = torch.bmm(centres[:, None], share)
    return depth.unflatten(2, features.shape[2:])


class BinsOutput(NamedTuple):
    """What the queries say after a layer.

    Attributes:
        widths (Tensor): Logits of the bin widths ``(B, N)``.
        embeddings (Tensor): Of the bins ``(B, N, C)``.
        scene (Tensor or None): Logits of the scenes ``(B, K)``.
    """

    widths: Tensor
    embeddings: Tensor
    scene: Optional[Tensor]


def _mlp(channels: int, out_channels: int) -> nn.Sequential:
    """Linear layers with ReLU between them, three in all."""
    return nn.Sequential(
        nn.Linear(channels, channels),
        nn.ReLU(inplace=True),
        nn.Linear(channels, channels),
        nn.ReLU(inplace=True),
        nn.Linear(channels, out_channels),
    )


class BinsDecoder(BaseModule):
    """Queries that attend to the encoded maps in turn.

    Each layer is cross-attention, self-attention and FFN, a LayerNorm after
    each. One norm and one set of output layers serve all layers. The scene
    query, if there is one, is the first.

    Source: Li et al., BinsFormer, 2022, section 3.

    Args:
        channels (int): Width. Defaults to 256.
        num_queries (int): Number N of bins. Defaults to 64.
        scene_classes (int, optional): Number K of scenes; None for no scene
            query. Defaults to 25.
        num_layers (int): Number of layers, at least ``num_levels``. Defaults
            to 9.
        num_levels (int): Number of maps. Defaults to 3.
        num_heads (int): Attention heads. Defaults to 8.
        feedforward_channels (int): Width of the FFN. Defaults to 2048.
        level_order (str): Which of the L maps layer i of n attends to:
            ``'//'`` for i L // n (each for some layers in a row), ``'%'`` for
            i % L. Defaults to '//'.
    """

    def __init__(
        self,
        channels: int = 256,
        num_queries: int = 64,
        scene_classes: Optional[int] = 25,
        num_layers: int = 9,
        num_levels: int = 3,
        num_heads: int = 8,
        feedforward_channels: int = 2048,
        level_order: str = '//',
    ) -> None:
        super().__init__()
        self.level_order = level_order
        self.with_scene = scene_classes is not None
        queries = num_queries + int(self.with_scene)
        self.query_content = nn.Embedding(queries, channels)
        self.query_position = nn.Embedding(queries, channels)
        self.level_embed = nn.Embedding(num_levels, channels)
        self.layers = ModuleList(
            [
                BaseTransformerLayer(
                    attn_cfgs=dict(
                        type='MultiheadAttention',
                        embed_dims=channels,
                        num_heads=num_heads,
                    ),
                    ffn_cfgs=dict(
                        type='FFN',
                        embed_dims=channels,
                        feedforward_channels=feedforward_channels,
                        num_fcs=2,
                        act_cfg=dict(type='ReLU', inplace=True),
                    ),
                    operation_order=(
                        'cross_attn',
                        'norm',
                        'self_attn',
                        'norm',
                        'ffn',
                        'norm',
                    ),
                    batch_first=True,
                )
                for _ in range(num_layers)
            ]
        )
        self.norm = nn.LayerNorm(channels)
        self.to_width = nn.Linear(channels, 1)
        self.to_embedding = _mlp(channels, channels)
        if scene_classes is not None:
            self.to_scene = _mlp(channels, scene_classes)

    def level_of(self, layer: int) -> int:
        """Index of the map that a layer attends to."""
        levels = self.level_embed.num_embeddings
        if self.level_order == '%':
            return layer % levels
        return layer * levels // len(self.layers)

    def forward(
        self, maps: Sequence[Tensor], layers: Sequence[int]
    ) -> List[BinsOutput]:
        """Outputs after some of the layers.

        Args:
            maps (Sequence[Tensor]): Encoded maps ``(B, channels, h_l, w_l)``
                in the order of attention.
            layers (Sequence[int]): After which layers, ascending.

        Returns:
            List[BinsOutput]: One for each of ``layers``.
        """
        keys, positions = [], []
        for x, embed in zip(maps, self.level_embed.weight):
            keys.append(x.flatten(2).transpose(1, 2) + embed)
            height, width = x.shape[2:]
            position = sine_positions(height, width, x.shape[1], x.device)
            # mmcv's attention wants it for every image
            positions.append(position.expand(len(x), -1, -1))
        shape = (len(maps[0]), -1, -1)
        query = self.query_content.weight.expand(*shape)
        query_pos = self.query_position.weight.expand(*shape)
        outputs = []
        for index, layer in enumerate(self.layers):
            level = self.level_of(index)
            query = layer(
                query,
                keys[level],
                keys[level],
                query_pos=query_pos,
                key_pos=positions[level],
            )
            if index in layers:
                outputs.append(self._output(query))
        return outputs

    def _output(self, query: Tensor) -> BinsOutput:
        query = self.norm(query)
        scene = None
        if self.with_scene:
            scene, query = self.to_scene(query[:, 0]), query[:, 1:]
        widths = self.to_width(query).squeeze(2)
        return BinsOutput(widths, self.to_embedding(query), scene)
