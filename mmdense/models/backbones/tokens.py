"""Tokens of a backbone, whatever its family."""

from typing import Any, NamedTuple, Optional, Tuple

from torch import Tensor


class Tokens(NamedTuple):
    """Tokens of one layer.

    Attributes:
        cls (Tensor or None): Class token ``(B, C)``; None without one.
        patches (Tensor): Patch tokens ``(B, N, C)``, row by row.
        hw (Tuple[int, int]): Patch grid, ``N = H * W``.
        dist (Tensor or None): Distillation token ``(B, C)`` of a distilled
            DeiT; None without one.
    """

    cls: Optional[Tensor]
    patches: Tensor
    hw: Tuple[int, int]
    dist: Optional[Tensor] = None

    @property
    def featmap(self) -> Tensor:
        """Patch tokens as a map ``(B, C, H, W)``."""
        batch, _, channels = self.patches.shape
        grid = self.patches.reshape(batch, *self.hw, channels)
        return grid.permute(0, 3, 1, 2)

    @property
    def pooled(self) -> Tensor:
        """Class token, or the mean of the patches without one; ``(B, C)``."""
        return self.patches.mean(dim=1) if self.cls is None else self.cls


def as_tokens(features: Any) -> Tokens:
    """Output of a backbone's layer as tokens.

    Args:
        features (Tokens or Tensor): Tokens (``mmdense.VisionTransformer``
            with ``out_type='tokens'``) or a map ``(B, C, H, W)`` (Swin,
            ResNet, ViT with ``out_type='featmap'``).

    Returns:
        Tokens: The patches, with the class token if there is one.

    Raises:
        ValueError: If the output is neither.
    """
    if isinstance(features, Tokens):
        return features
    if isinstance(features, Tensor) and features.ndim == 4:
        height, width = features.shape[2:]
        return Tokens(
            None, features.flatten(2).transpose(1, 2), (height, width)
        )
    got = (
        f'a tensor of shape {tuple(features.shape)}'
        if isinstance(features, Tensor)
        else type(features).__name__
    )
    raise ValueError(
        f'The backbone gives {got}; tokens or a map (B, C, H, W) are needed. '
        "Set out_type='tokens' (or 'featmap') in the config of the ViT."
    )
