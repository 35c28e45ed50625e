"""Projection head of DINO and SelfPatch."""

from typing import List, Optional

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn
from torch.nn import Parameter

from mmdense.registry import MODELS


class WeightNormLinear(nn.Module):
    """Linear layer without bias, rows as direction times magnitude.

    The same parameters as ``torch.nn.utils.weight_norm``, which attaches a
    computed tensor to the module and so cannot be copied for a teacher.

    Args:
        in_channels (int): Width of the input.
        out_channels (int): Width of the output.
        learn_magnitude (bool): Whether the magnitudes, 1 at the start, are
            trained.
    """

    def __init__(
        self, in_channels: int, out_channels: int, learn_magnitude: bool
    ) -> None:
        super().__init__()
        direction = nn.Linear(in_channels, out_channels, bias=False).weight
        self.weight_v = Parameter(direction.detach())
        self.weight_g = Parameter(
            direction.new_ones(out_channels, 1), requires_grad=learn_magnitude
        )

    @property
    def weight(self) -> Tensor:
        """Weight matrix ``(out_channels, in_channels)``."""
        norm = self.weight_v.norm(dim=1, keepdim=True)
        return self.weight_v * (self.weight_g / norm)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to ``(..., in_channels)``."""
        return F.linear(x, self.weight)


@MODELS.register_module()
class DINOHead(BaseModule):
    """MLP to a normalised bottleneck, then a weight-normalised layer.

    Sources: Caron et al., "Emerging Properties in Self-Supervised Vision
    Transformers", ICCV 2021, appendix C; facebookresearch/dino
    ``vision_transformer.py``. The parameter names are the official ones.

    Args:
        in_channels (int): Width of the input.
        out_channels (int): Number ``K`` of outputs. Defaults to 65536.
        hid_channels (int): Width of the hidden layers. Defaults to 2048.
        bottleneck_channels (int): Width of the bottleneck. Defaults to 256.
        num_layers (int): Linear layers up to the bottleneck, at least 1.
            Defaults to 3.
        norm_last_layer (bool): Keep the magnitudes of the last layer at 1.
            DINO advises False for small models. Defaults to True.
        use_bn (bool): BatchNorm before each GELU. Defaults to False.
        init_cfg (dict, optional): Initialisation. Defaults to None: linear
            layers from a truncated normal of std 0.02, biases zero.

    Raises:
        ValueError: If ``num_layers`` is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 65536,
        hid_channels: int = 2048,
        bottleneck_channels: int = 256,
        num_layers: int = 3,
        norm_last_layer: bool = True,
        use_bn: bool = False,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_layers < 1:
            raise ValueError(f'num_layers={num_layers}: needs at least 1.')
        self.out_channels = out_channels
        widths = [in_channels] + [hid_channels] * (num_layers - 1)
        layers: List[nn.Module] = []
        for before, after in zip(widths, widths[1:]):
            layers.append(nn.Linear(before, after))
            if use_bn:
                layers.append(nn.BatchNorm1d(after))
            layers.append(nn.GELU())
        last = nn.Linear(widths[-1], bottleneck_channels)
        self.mlp = nn.Sequential(*layers, last) if layers else last
        self.last_layer = WeightNormLinear(
            bottleneck_channels, out_channels, not norm_last_layer
        )
        for module in self.mlp.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def bottleneck(self, x: Tensor) -> Tensor:
        """Normalised bottleneck.

        Args:
            x (Tensor): ``(rows, in_channels)``.

        Returns:
            Tensor: ``(rows, bottleneck_channels)`` of length 1.
        """
        return F.normalize(self.mlp(x), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, before temperatures and centring.

        Args:
            x (Tensor): ``(rows, in_channels)``.

        Returns:
            Tensor: ``(rows, out_channels)``.
        """
        return self.last_layer(self.bottleneck(x))
