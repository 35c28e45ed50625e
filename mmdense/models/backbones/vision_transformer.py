"""Vision transformer for dense prediction."""

import logging
from typing import (
    Any,
    Dict,
    List,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import torch
from mmengine.logging import print_log
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models.backbones import (
    VisionTransformer as _VisionTransformer,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdense.registry import MODELS
from mmdense.utils.position import (
    MODES,
    RULES,
    fit_pos_embed,
    resize_pos_embed,
)

from .pretrained import is_loaded, pretrained_last
from .tokens import Tokens

_ARCH_KEYS = {'embed_dims', 'num_layers', 'num_heads', 'feedforward_channels'}


def _layer_indices(
    indices: Union[int, Sequence[int]], num_layers: int
) -> List[int]:
    """Non-negative layer indices, checked."""
    given = [indices] if isinstance(indices, int) else list(indices)
    found = [i + num_layers if i < 0 else i for i in given]
    bad = [g for g, i in zip(given, found) if not 0 <= i < num_layers]
    if bad or not found or len(set(found)) != len(found):
        raise ValueError(
            f'out_indices={indices} must be different layers of a ViT with '
            f'{num_layers} layers: 0 to {num_layers - 1}, or negative from '
            'the end.'
        )
    return found


@MODELS.register_module()
class VisionTransformer(_VisionTransformer):
    """Vision transformer with tokens and maps of any layer at any size.

    Subclass of ``mmpretrain.VisionTransformer`` with the same parameter
    names, so weights go both ways. Subclassed as a whole because the stock
    ``forward`` has no point where taps, resizing and checkpointing could be
    plugged in. It adds:

    * images of any size, on load and on the fly; also non-square
      ``img_size``
    * ``out_type='tokens'``: class token and patch tokens in one pass
    * taps through the final norm (``norm_taps``), tuples and negative
      numbers in ``out_indices``
    * activation checkpointing, attention maps, initialisation of DINO

    Sizes that the patch size does not divide are padded at the bottom and
    right as in mmpretrain; ``patch_cfg=dict(padding=0)`` cuts the remainder
    off as the official DINO and SelfPatch code does.

    Args:
        arch (str or dict): Name (``'deit-tiny'``, ``'deit-small'``,
            ``'deit-base'``, ``'large'``, ``'mocov3-small'``, ...) or dict of
            ``embed_dims``, ``num_layers``, ``num_heads`` and
            ``feedforward_channels``. Note that the stock ``'small'`` is 768
            wide with 8 layers. Defaults to ``'base'``.
        img_size (int or Tuple[int, int]): Size ``(H, W)`` that the position
            embedding is stored for. Defaults to 224.
        patch_size (int): Side of a patch. Defaults to 16.
        out_indices (int or Sequence[int]): Layers to return, in this order;
            negative ones count from the end. Defaults to -1.
        out_type (str): As in mmpretrain (``'cls_token'``, ``'featmap'``,
            ``'avg_featmap'``, ``'raw'``), or ``'tokens'`` for
            :class:`Tokens`. Defaults to ``'cls_token'``.
        pos_embed_rule (str): ``'size'`` or ``'scale'`` (official DINO and
            SelfPatch), see :func:`mmdense.utils.position.resize_pos_embed`.
            Defaults to ``'size'``.
        interpolate_mode (str): ``'bicubic'`` or ``'bilinear'``. Defaults to
            ``'bicubic'``.
        norm_taps (str): Which returned layers go through the final norm:
            ``'last'`` only the last layer of the network (mmpretrain),
            ``'all'`` every one (DINO's ``get_intermediate_layers``). Without
            ``final_norm`` none does.
            Defaults to ``'last'``.
        with_cp (bool): Recompute activations in the backward pass. Defaults
            to False.
        init_std (float, optional): Start all linear weights, the class token
            and the position embedding from a truncated normal of this std
            and biases from zero (DINO, DeiT: 0.02). None keeps mmpretrain's
            start. Defaults to None.
        **kwargs: As in ``mmpretrain.VisionTransformer``: ``drop_path_rate``,
            ``final_norm``, ``with_cls_token``, ``frozen_stages``,
            ``norm_cfg``, ``patch_cfg``, ``layer_cfgs``, ``init_cfg``, ...

    Raises:
        ValueError: If an option has an unknown value.

    Sources: Dosovitskiy et al., arXiv 2010.11929; facebookresearch/dino
    ``vision_transformer.py``; alinlab/SelfPatch
    ``selfpatch_vision_transformer.py`` (no class token, no final norm:
    ``with_cls_token=False, final_norm=False``).
    """

    # a dict of our own: mmpretrain's MoCoV3ViT edits the shared one
    arch_zoo: Dict[str, dict] = {
        **_VisionTransformer.arch_zoo,
        **dict.fromkeys(
            ['mocov3-s', 'mocov3-small'],
            {
                'embed_dims': 384,
                'num_layers': 12,
                'num_heads': 12,
                'feedforward_channels': 1536,
            },
        ),
    }
    OUT_TYPES = _VisionTransformer.OUT_TYPES | {'tokens'}

    def __init__(
        self,
        arch: Union[str, dict] = 'base',
        img_size: Union[int, Sequence[int]] = 224,
        patch_size: Union[int, Sequence[int]] = 16,
        *,
        out_indices: Union[int, Sequence[int]] = -1,
        out_type: str = 'cls_token',
        pos_embed_rule: str = 'size',
        interpolate_mode: str = 'bicubic',
        norm_taps: str = 'last',
        with_cp: bool = False,
        init_std: Optional[float] = None,
        **kwargs: Any,
    ) -> None:
        for name, value, choices in (
            ('pos_embed_rule', pos_embed_rule, RULES),
            ('interpolate_mode', interpolate_mode, MODES),
            ('norm_taps', norm_taps, ('last', 'all')),
            ('out_type', out_type, sorted(self.OUT_TYPES)),
        ):
            if value not in choices:
                raise ValueError(
                    f'{name} must be one of {tuple(choices)}, got {value!r}.'
                )
        if isinstance(arch, str) and arch.lower() not in self.arch_zoo:
            raise ValueError(
                f'arch {arch!r} is unknown. Names: {sorted(self.arch_zoo)}; '
                'or give a dict of embed_dims, num_layers, num_heads and '
                'feedforward_channels.'
            )
        settings = (
            self.arch_zoo[arch.lower()] if isinstance(arch, str) else arch
        )
        lacking = _ARCH_KEYS - set(settings)
        if lacking:
            raise ValueError(f'arch lacks {sorted(lacking)}: {settings}.')
        super().__init__(
            arch=settings,
            img_size=img_size
            if isinstance(img_size, int)
            else tuple(img_size),
            patch_size=patch_size,
            out_indices=_layer_indices(out_indices, settings['num_layers']),
            out_type=out_type,
            interpolate_mode=interpolate_mode,
            **kwargs,
        )
        self.pos_embed_rule = pos_embed_rule
        self.norm_taps = norm_taps
        self.with_cp = with_cp
        self.init_std = init_std
        self._resize_logged = False
        self._small_logged = False

    def init_weights(self) -> None:
        """Initialise; weights of a file are never overwritten."""
        pretrained_last(self)
        first = not self.is_init
        super().init_weights()
        if self.init_std is None or not first or is_loaded(self):
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=self.init_std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        trunc_normal_(self.pos_embed, std=self.init_std)
        if self.cls_token is not None:
            trunc_normal_(self.cls_token, std=self.init_std)

    def train(self, mode: bool = True) -> 'VisionTransformer':
        """Switch the mode; frozen layers stay in evaluation mode.

        Args:
            mode (bool): Training or evaluation. Defaults to True.

        Returns:
            VisionTransformer: This module.
        """
        super().train(mode)
        if mode and self.frozen_stages > 0:
            self._freeze_stages()
        return self

    def _prepare_pos_embed(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load hook: resize the position embedding of a checkpoint."""
        name = prefix + 'pos_embed'
        if name in state_dict:
            state_dict[name] = fit_pos_embed(
                state_dict[name],
                self.pos_embed.detach(),
                self.patch_resolution,
                self.num_extra_tokens,
                self.interpolate_mode,
                self.pos_embed_rule,
            )

    def position_embedding(self, hw: Tuple[int, int]) -> Tensor:
        """Position embedding for a patch grid.

        Args:
            hw (Tuple[int, int]): Patch grid of the input.

        Returns:
            Tensor: ``(1, num_extra_tokens + H * W, C)``.
        """
        same = tuple(hw) == tuple(self.patch_resolution)
        # one line a model: detection sees a new size in every batch
        log = not same and not self._resize_logged
        self._resize_logged = self._resize_logged or log
        return resize_pos_embed(
            self.pos_embed,
            self.patch_resolution,
            hw,
            self.interpolate_mode,
            self.pos_embed_rule,
            self.num_extra_tokens,
            log=log,
        )

    def _embed(self, x: Tensor) -> Tuple[Tensor, Tuple[int, int]]:
        """Sequence that enters the first layer, and the patch grid."""
        kernel = self.patch_embed.projection.kernel_size
        padded = self.patch_embed.adaptive_padding is not None
        if x.ndim != 4 or (
            not padded and (x.shape[2] < kernel[0] or x.shape[3] < kernel[1])
        ):
            raise ValueError(
                f'The ViT got an input of shape {tuple(x.shape)}; it needs '
                f'(B, C, H, W) with at least one {kernel[0]}x{kernel[1]} '
                'patch.'
            )
        if min(x.shape[2] - kernel[0], x.shape[3] - kernel[1]) < 0:
            self._warn_small(tuple(x.shape[2:]), kernel)
        x, hw = self.patch_embed(x)
        return self._sequence(x, hw), hw

    def _extra_tokens(self) -> List[Tensor]:
        """Tokens ``(1, 1, C)`` in front of the patches."""
        return [] if self.cls_token is None else [self.cls_token]

    def _sequence(self, patches: Tensor, hw: Tuple[int, int]) -> Tensor:
        """Sequence that enters the first layer, of embedded patches."""
        extra = [
            t.expand(patches.shape[0], -1, -1) for t in self._extra_tokens()
        ]
        x = torch.cat((*extra, patches), dim=1) if extra else patches
        x = x + self.position_embedding(hw)
        return self.pre_norm(self.drop_after_pos(x))

    def _warn_small(self, size: Tuple[int, ...], kernel: Any) -> None:
        if self._small_logged:
            return
        self._small_logged = True
        print_log(
            f'Images of {size[0]}x{size[1]} pixels are smaller than a patch '
            f'of {kernel[0]}x{kernel[1]}: the patch is filled up with zeros.',
            logger='current',
            level=logging.WARNING,
        )

    def _run(self, layer: nn.Module, x: Tensor) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(layer, x, use_reentrant=False)
        return layer(x)

    def forward(self, x: Tensor) -> Tuple[Union[Tensor, Tokens], ...]:
        """Features of the chosen layers.

        Args:
            x (Tensor): Images ``(B, 3, H, W)`` of any size.

        Returns:
            tuple: One entry per ``out_indices``, in its order; what each is
            says ``out_type``.

        Raises:
            ValueError: If the input is no batch of images with a patch.
        """
        x, hw = self._embed(x)
        outs = self._taps(x, hw)
        return tuple(outs[i] for i in self.out_indices)

    def _taps(
        self, x: Tensor, hw: Tuple[int, int]
    ) -> Dict[Union[int, str], Union[Tensor, Tokens]]:
        """Outputs of the chosen layers for the sequence of the first."""
        last = len(self.layers) - 1
        outs: Dict[Union[int, str], Union[Tensor, Tokens]] = {}
        for i, layer in enumerate(self.layers):
            x = self._run(layer, x)
            if i == last and self.final_norm:
                x = self.ln1(x)
            if i in self.out_indices:
                tap = x
                if i != last and self.final_norm and self.norm_taps == 'all':
                    tap = self.ln1(x)
                outs[i] = self._format_output(tap, hw)
        return outs

    def _format_output(
        self, x: Tensor, hw: Tuple[int, int]
    ) -> Union[Tensor, Tokens]:
        if self.out_type != 'tokens':
            return super()._format_output(x, hw)
        cls = x[:, 0] if self.cls_token is not None else None
        return Tokens(cls, x[:, self.num_extra_tokens :], (hw[0], hw[1]))

    def attention_maps(self, x: Tensor, layer: int = -1) -> Tensor:
        """Attention weights of one layer.

        Recomputed from queries and keys; the fused attention of the forward
        pass, which returns no weights, stays as it is. Wrap the call in
        ``torch.no_grad()`` where no gradient is wanted.

        Args:
            x (Tensor): Images ``(B, 3, H, W)``.
            layer (int): Layer, negative ones from the end. Defaults to -1.

        Returns:
            Tensor: ``(B, num_heads, L, L)`` with ``L`` extra and patch
            tokens; rows sum to 1.
        """
        (index,) = _layer_indices(layer, self.num_layers)
        x, _ = self._embed(x)
        for block in self.layers[:index]:
            x = block(x)
        block = self.layers[index]
        attn = block.attn
        batch, length, _ = x.shape
        qkv = attn.qkv(block.ln1(x))
        qkv = qkv.reshape(batch, length, 3, attn.num_heads, attn.head_dims)
        query, key, _ = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-2, -1) * attn.head_dims**-0.5
        return scores.float().softmax(dim=-1)

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> Tuple[int, int]:
        """Depth of a parameter, for layer-wise learning rates.

        Args:
            param_name (str): Name of the parameter in the whole model.
            prefix (str): What this backbone's names start with there.
                Defaults to ``''``.

        Returns:
            Tuple[int, int]: Depth, 0 for the embeddings, ``i + 1`` for layer
            ``i``, ``L + 1`` for the final norm and everything after; and the
            number of depths ``L + 2``.
        """
        if param_name.startswith(prefix + 'pre_norm.'):
            return 0, self.num_layers + 2
        return super().get_layer_depth(param_name, prefix)
