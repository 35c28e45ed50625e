"""Moving average of a network that is being trained."""

import math
from copy import deepcopy
from typing import Iterator, List, Mapping, Tuple

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd


def _silence(module: nn.Module) -> None:
    """Turn drop path and dropout off, also in training mode."""
    for part in module.modules():
        if isinstance(part, DropPath):
            part.drop_prob = 0.0  # type: ignore[assignment]
        elif isinstance(part, _DropoutNd):
            part.p = 0.0
        elif isinstance(part, nn.MultiheadAttention):
            part.dropout = 0.0
        elif isinstance(getattr(part, 'attn_drop', None), float):
            # mmpretrain's attention hands the rate to the fused function
            part.attn_drop = 0.0  # type: ignore[assignment]


class MomentumTeacher(nn.Module):
    """Frozen copies of the parts of a network that follow them slowly.

    ``teacher = m * teacher + (1 - m) * student`` for parameters; buffers
    (statistics of BatchNorm) are the copy's own. The copies stay in the mode
    of the whole model and have neither drop path nor dropout. ``m`` rises
    from ``momentum`` to ``end_momentum`` along half a cosine:
    ``m = end + (momentum - end) (1 + cos(pi * progress)) / 2``.

    The copies are children of this module under the names of the parts.

    Sources: Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, section
    3.1; facebookresearch/dino ``main_dino.py``.

    Args:
        momentum (float): At the start, in [0, 1]. Defaults to 0.996.
        end_momentum (float): At the end, in [0, 1]. Defaults to 1.0.

    Raises:
        ValueError: If a momentum is out of its range.
    """

    momentum: Tensor

    def __init__(
        self, momentum: float = 0.996, end_momentum: float = 1.0
    ) -> None:
        super().__init__()
        for name, value in (
            ('momentum', momentum),
            ('end_momentum', end_momentum),
        ):
            if not 0 <= value <= 1:
                raise ValueError(
                    f'teacher.{name}={value}: needs 0 <= {name} <= 1.'
                )
        self.start_momentum = float(momentum)
        self.end_momentum = float(end_momentum)
        self.register_buffer('momentum', torch.tensor(float(momentum)))

    def add(self, name: str, part: nn.Module) -> None:
        """Add a copy of a part.

        Args:
            name (str): Name of the part in the network.
            part (nn.Module): The part.
        """
        copy = deepcopy(part)
        copy.requires_grad_(False)
        _silence(copy)
        self.add_module(name, copy)

    def _pairs(
        self, source: Mapping[str, nn.Module]
    ) -> Iterator[Tuple[nn.Module, nn.Module]]:
        for name, copy in self.named_children():
            yield copy, source[name]

    @torch.no_grad()
    def copy_from(self, source: Mapping[str, nn.Module]) -> None:
        """Take over parameters and buffers.

        Args:
            source (Mapping[str, nn.Module]): The parts by name.
        """
        for copy, part in self._pairs(source):
            copy.load_state_dict(part.state_dict())

    def momentum_at(self, progress: float) -> float:
        """Momentum at a point of the training.

        Args:
            progress (float): Share of the training that is done, [0, 1].

        Returns:
            float: In [0, 1].
        """
        wave = (1 + math.cos(math.pi * progress)) / 2
        return (
            self.end_momentum
            + (self.start_momentum - self.end_momentum) * wave
        )

    @torch.no_grad()
    def update(self, source: Mapping[str, nn.Module], progress: float) -> None:
        """Move the copies one step towards the parts.

        Args:
            source (Mapping[str, nn.Module]): The parts by name.
            progress (float): Share of the training that is done, [0, 1].
        """
        momentum = self.momentum_at(progress)
        copies: List[Tensor] = []
        parts: List[Tensor] = []
        for copy, part in self._pairs(source):
            copies.extend(copy.parameters())
            parts.extend(p.detach() for p in part.parameters())
        torch._foreach_mul_(copies, momentum)
        torch._foreach_add_(copies, parts, alpha=1 - momentum)
        self.momentum.fill_(momentum)
