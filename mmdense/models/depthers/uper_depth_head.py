"""UPerNet-style depth head: pyramid pooling and FPN fusion."""

from typing import Any, Sequence

from mmseg.models.decode_heads.uper_head import UPerHead

from mmdense.registry import MODELS

from .base_depth_head import BaseDepthHead


# The fusion is all UPerHead's; BaseDepthHead goes first for output and loss.
@MODELS.register_module()
class UPerDepthHead(BaseDepthHead, UPerHead):
    """Pyramid pooling on the coarsest map, FPN over all, depth at stride 4.

    Takes four maps of strides 4, 8, 16 and 32, such as those of
    ``mmseg.Feature2Pyramid`` on a ViT, of Swin or of a ResNet.

    Sources: [0] Xiao et al., Unified Perceptual Parsing for Scene
    Understanding, 2018 (fusion). [1] mmseg ``UPerHead``.

    Args:
        in_channels (Sequence[int]): Channels of the maps.
        channels (int): Width of the head.
        in_index (Sequence[int]): Which maps to take. Defaults to
            (0, 1, 2, 3).
        pool_scales (Sequence[int]): Output sizes of the pooling. Defaults to
            (1, 2, 3, 6).
        **kwargs (Any): See :class:`BaseDepthHead`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        in_index: Sequence[int] = (0, 1, 2, 3),
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            channels=channels,
            in_index=in_index,
            pool_scales=tuple(pool_scales),
            **kwargs,
        )
