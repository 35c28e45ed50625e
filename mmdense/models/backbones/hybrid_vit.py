"""Hybrid vision transformer: a ResNet makes the patches."""

from typing import (
    Any,
    Dict,
    List,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from mmdense.registry import MODELS

from .pretrained import is_loaded
from .resnetv2 import ResNetV2Stem
from .tokens import Tokens
from .vision_transformer import VisionTransformer

Index = Union[int, str]
_STEM = 'stem'


class HybridEmbed(BaseModule):
    """Patches of a convolutional map instead of the image.

    Args:
        embed_dims (int): Width of the tokens.
        layers (Sequence[int]): Blocks of the stages of the ResNet.
        in_channels (int): Channels of the image.
        with_cp (bool): Recompute activations in the backward pass.
    """

    # what the ViT asks a patch embedding for: any size has a patch
    adaptive_padding = 'same'

    def __init__(
        self,
        embed_dims: int,
        layers: Sequence[int],
        in_channels: int,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.backbone = ResNetV2Stem(layers, in_channels, with_cp)
        self.projection = nn.Conv2d(
            self.backbone.out_channels[-1], embed_dims, 1
        )

    def patches(self, x: Tensor) -> Tuple[Tensor, Tuple[int, int]]:
        """Tokens of the last map.

        Args:
            x (Tensor): ``(B, C, H, W)``.

        Returns:
            Tuple[Tensor, Tuple[int, int]]: ``(B, H * W, D)`` and the grid.
        """
        x = self.projection(x)
        return x.flatten(2).transpose(1, 2), (int(x.shape[2]), int(x.shape[3]))

    def forward(self, x: Tensor) -> Tuple[Tensor, Tuple[int, int]]:
        """Tokens of images.

        Args:
            x (Tensor): ``(B, C, H, W)``.

        Returns:
            Tuple[Tensor, Tuple[int, int]]: ``(B, N, D)`` and the grid.
        """
        return self.patches(self.backbone(x)[-1])


def _split_indices(
    out_indices: Union[Index, Sequence[Index]], stages: int
) -> Tuple[List[Index], List[int]]:
    """Taps as given, and those of them that are layers."""
    if isinstance(out_indices, (int, str)):
        out_indices = [out_indices]
    names = [f'{_STEM}{i}' for i in range(stages)]
    given = list(out_indices)
    bad = [i for i in given if isinstance(i, str) and i not in names]
    texts = [i for i in given if isinstance(i, str)]
    if bad or not given or len(set(texts)) != len(texts):
        raise ValueError(
            f'out_indices={out_indices} must be different layers (numbers) '
            f'and stages of the ResNet ({", ".join(map(repr, names))}).'
        )
    return given, [i for i in given if not isinstance(i, str)]


@MODELS.register_module()
class HybridVisionTransformer(VisionTransformer):
    """Vision transformer on the stride-16 map of a ResNet (R50+ViT).

    The patch embedding of :class:`VisionTransformer` is a
    :class:`ResNetV2Stem` and a 1x1 convolution; everything else, resizing
    of positions included, is inherited. The maps of the ResNet's stages can
    be returned beside layers of the transformer.

    Args:
        arch (str or dict): As in :class:`VisionTransformer`. Defaults to
            ``'base'``.
        img_size (int or Tuple[int, int]): Size ``(H, W)`` that the position
            embedding is stored for. Defaults to 384.
        layers (Sequence[int]): Blocks of the three stages of the ResNet.
            Defaults to (3, 4, 9).
        out_indices (int, str or Sequence): What to return, in this order:
            numbers are layers, ``'stem0'``, ``'stem1'`` and ``'stem2'`` the
            maps of the stages (256 channels at stride 4, 512 at 8, 1024 at
            16). Defaults to ``('stem0', 'stem1', 8, 11)``, the taps of
            DPT-Hybrid.
        out_type (str): What a layer gives, see :class:`VisionTransformer`.
            Defaults to ``'tokens'``.
        interpolate_mode (str): Of the position embedding. Defaults to
            ``'bilinear'``.
        final_norm (bool): Norm behind the last layer. Defaults to False.
        in_channels (int): Channels of the image. Defaults to 3.
        with_cp (bool): Recompute activations in the backward pass, also of
            the ResNet. Defaults to False.
        **kwargs: As in :class:`VisionTransformer`, but ``patch_size`` and
            ``patch_cfg``: patches are 16 pixels.

    Raises:
        ValueError: If an option has an unknown value.

    Sources: Dosovitskiy et al., arXiv 2010.11929; Ranftl et al., arXiv
    2103.13413. Parameters below ``patch_embed.backbone`` are named as in
    timm's ``vit_base_r50_s16_384``.
    """

    out_indices: List[Any]

    def __init__(
        self,
        arch: Union[str, dict] = 'base',
        img_size: Union[int, Sequence[int]] = 384,
        layers: Sequence[int] = (3, 4, 9),
        *,
        out_indices: Union[Index, Sequence[Index]] = ('stem0', 'stem1', 8, 11),
        out_type: str = 'tokens',
        interpolate_mode: str = 'bilinear',
        final_norm: bool = False,
        in_channels: int = 3,
        with_cp: bool = False,
        **kwargs: Any,
    ) -> None:
        for name in ('patch_size', 'patch_cfg'):
            if kwargs.get(name) not in (None, 16, {}):
                raise ValueError(
                    f'{name} cannot be set: the ResNet makes the patches of '
                    '16 pixels.'
                )
            kwargs.pop(name, None)
        if len(layers) != 3:
            raise ValueError(
                f'layers={tuple(layers)} must give three stages: the third '
                'has the stride 16 of the patches.'
            )
        taps, numbers = _split_indices(out_indices, len(layers))
        super().__init__(
            arch,
            img_size,
            16,
            out_indices=numbers or -1,
            out_type=out_type,
            interpolate_mode=interpolate_mode,
            final_norm=final_norm,
            in_channels=in_channels,
            with_cp=with_cp,
            **kwargs,
        )
        checked = iter(self.out_indices)
        self.out_indices = [
            i if isinstance(i, str) else next(checked) for i in taps
        ]
        self.patch_embed = HybridEmbed(
            self.embed_dims, layers, in_channels, with_cp
        )
        if self.frozen_stages > 0:
            self._freeze_stages()

    def forward(self, x: Tensor) -> Tuple[Union[Tensor, Tokens], ...]:
        """Features of the chosen stages and layers.

        Args:
            x (Tensor): Images ``(B, 3, H, W)`` of any size.

        Returns:
            tuple: One entry per ``out_indices``, in its order: maps
            ``(B, C, ceil(H / stride), ceil(W / stride))`` of stages, and
            what ``out_type`` says of layers, on a grid of
            ``ceil(H / 16) x ceil(W / 16)``.

        Raises:
            ValueError: If the input is no batch of images.
        """
        if x.ndim != 4:
            raise ValueError(
                f'The ViT got an input of shape {tuple(x.shape)}; it needs '
                '(B, C, H, W).'
            )
        maps = self.patch_embed.backbone(x)
        patches, hw = self.patch_embed.patches(maps[-1])
        outs: Dict[Index, Union[Tensor, Tokens]] = {
            f'{_STEM}{i}': value for i, value in enumerate(maps)
        }
        outs.update(self._taps(self._sequence(patches, hw), hw))
        return tuple(outs[i] for i in self.out_indices)


@MODELS.register_module()
class DistilledVisionTransformer(VisionTransformer):
    """Vision transformer with a class and a distillation token (DeiT).

    Options and outputs are those of :class:`VisionTransformer`; ``Tokens``
    hold the second token as ``dist``. Subclassing
    ``mmpretrain.DistilledVisionTransformer`` would bring back its
    ``forward``, which has neither taps nor resizing.

    Args:
        arch (str or dict): As in :class:`VisionTransformer`. Defaults to
            ``'deit-base'``.
        *args: As in :class:`VisionTransformer`.
        **kwargs: As in :class:`VisionTransformer`, but
            ``with_cls_token=False``.

    Raises:
        ValueError: If an option has an unknown value.

    Sources: Touvron et al., arXiv 2012.12877; positions begin with those of
    the class and the distillation token.
    """

    num_extra_tokens = 2

    def __init__(
        self, arch: Union[str, dict] = 'deit-base', *args: Any, **kwargs: Any
    ) -> None:
        if not kwargs.get('with_cls_token', True):
            raise ValueError(
                'A distilled ViT has a class token: leave with_cls_token '
                'out, or use mmdense.VisionTransformer.'
            )
        super().__init__(arch, *args, **kwargs)
        self.dist_token = nn.Parameter(self.cls_token.detach().clone())
        if self.frozen_stages > 0:
            self._freeze_stages()

    def init_weights(self) -> None:
        """Initialise; weights of a file are never overwritten."""
        first = not self.is_init
        super().init_weights()
        if first and not is_loaded(self):
            trunc_normal_(self.dist_token, std=0.02)

    def _extra_tokens(self) -> List[Tensor]:
        return [self.cls_token, self.dist_token]

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        # the constructor of the base class comes here before there is one
        token: Optional[Tensor] = getattr(self, 'dist_token', None)
        if token is not None:
            token.requires_grad = False

    def _format_output(
        self, x: Tensor, hw: Tuple[int, int]
    ) -> Union[Tensor, Tokens]:
        out = super()._format_output(x, hw)
        return out._replace(dist=x[:, 1]) if isinstance(out, Tokens) else out

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> Tuple[int, int]:
        """Depth of a parameter, see :class:`VisionTransformer`.

        Args:
            param_name (str): Name of the parameter in the whole model.
            prefix (str): What this backbone's names start with there.
                Defaults to ``''``.

        Returns:
            Tuple[int, int]: Depth and the number of depths.
        """
        if param_name == prefix + 'dist_token':
            return 0, self.num_layers + 2
        return super().get_layer_depth(param_name, prefix)
