"""Projector that works on tokens, without pooling."""

from typing import List, Optional, Tuple, Union

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdense.registry import MODELS


class _TokenNorm(nn.Module):
    """BatchNorm over the tokens of a batch, ``(..., C)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x.reshape(-1, x.shape[-1])).view(x.shape)


def _mlp(channels: Tuple[int, ...], norm: str) -> nn.Sequential:
    layers: List[nn.Module] = []
    for index, (before, after) in enumerate(zip(channels, channels[1:])):
        layers.append(nn.Linear(before, after))
        if index == len(channels) - 2:
            break
        if norm == 'bn':
            layers.append(_TokenNorm(after))
        elif norm == 'ln':
            layers.append(nn.LayerNorm(after, eps=1e-6))
        layers.append(nn.GELU())
    return nn.Sequential(*layers)


@MODELS.register_module()
class TokenProjector(BaseModule):
    """MLP with GELU for class and patch tokens.

    The stock ``NonLinearNeck`` pools its input, has ReLU and BatchNorm only.

    Source: Rabarisoa et al., CVPRW 2023, section 3 (three layers, GELU).

    Args:
        in_channels (int): Width of the tokens.
        hid_channels (int): Width of the hidden layers. Defaults to 2048.
        out_channels (int): Width of the output. Defaults to 256.
        num_layers (int): Number of linear layers, at least 1. Defaults to 3.
        norm (str): Normalisation before each GELU: ``'none'``, ``'bn'`` or
            ``'ln'``. Defaults to ``'none'``.
        share_projector (bool): One MLP for class and patch tokens. Defaults
            to True.
        with_cp (bool): Recompute activations in the backward pass. Defaults
            to False.
        init_cfg (dict or list, optional): Defaults to truncated normal with
            std 0.02 and zero biases.

    Raises:
        ValueError: If ``norm`` or ``num_layers`` is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int = 2048,
        out_channels: int = 256,
        num_layers: int = 3,
        norm: str = 'none',
        share_projector: bool = True,
        with_cp: bool = False,
        init_cfg: Optional[Union[dict, list]] = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = {
                'type': 'TruncNormal',
                'layer': 'Linear',
                'std': 0.02,
                'bias': 0,
            }
        super().__init__(init_cfg)
        if norm not in ('none', 'bn', 'ln'):
            raise ValueError(f"norm={norm!r}: choose 'none', 'bn' or 'ln'")
        if num_layers < 1:
            raise ValueError(f'num_layers must be >= 1, got {num_layers}')
        channels = (
            in_channels,
            *[hid_channels] * (num_layers - 1),
            out_channels,
        )
        self.out_channels = out_channels
        self.with_cp = with_cp
        self.projector = _mlp(channels, norm)
        self.local_projector = (
            None if share_projector else _mlp(channels, norm)
        )

    def _run(self, mlp: nn.Module, x: Tensor) -> Tensor:
        if self.with_cp and x.requires_grad:
            return checkpoint(mlp, x, use_reentrant=False)
        return mlp(x)

    def forward(self, cls: Tensor, patches: Tensor) -> Tuple[Tensor, Tensor]:
        """Project both kinds of token.

        Args:
            cls (Tensor): Class tokens, ``(B, C)``.
            patches (Tensor): Patch tokens, ``(B, N, C)``.

        Returns:
            Tuple[Tensor, Tensor]: ``(B, d)`` and ``(B, N, d)``.
        """
        if self.local_projector is not None:
            return (
                self._run(self.projector, cls),
                self._run(self.local_projector, patches),
            )
        tokens = torch.cat([cls[:, None], patches], dim=1)
        out = self._run(self.projector, tokens)  # (B, 1 + N, d)
        return out[:, 0], out[:, 1:]
