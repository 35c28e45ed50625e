"""Swin Transformer for dense prediction."""

import logging
from functools import lru_cache
from typing import Any, Dict, Optional, Sequence, Set, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule, ModuleList
from mmpretrain.models.backbones import SwinTransformer as _SwinTransformer
from mmpretrain.models.backbones.swin_transformer import SwinBlock
from mmpretrain.models.utils import ShiftWindowMSA, WindowMSA
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdense.registry import MODELS
from mmdense.utils.position import (
    MODES,
    fit_pos_embed,
    infer_window,
    resize_rel_pos_table,
)

from .pretrained import pretrained_last

TABLE = 'relative_position_bias_table'
INDEX = 'relative_position_index'


def relative_position_index(window: int) -> Tensor:
    """Row of the bias table for each pair of positions in a window.

    Args:
        window (int): Side ``W`` of the window.

    Returns:
        Tensor: int64 ``(W * W, W * W)``; row ``(dy + W - 1) * (2W - 1) +
        dx + W - 1`` for offset ``(dy, dx)`` from key to query.
    """
    y, x = torch.meshgrid(
        torch.arange(window), torch.arange(window), indexing='ij'
    )
    y, x = y.flatten(), x.flatten()
    rows = y[:, None] - y[None, :] + window - 1
    columns = x[:, None] - x[None, :] + window - 1
    return rows * (2 * window - 1) + columns


@lru_cache(maxsize=32)
def _index_on(window: int, device: torch.device) -> Tensor:
    return relative_position_index(window).to(device)


def crop_table(table: Tensor, window: int, smaller: int) -> Tensor:
    """Bias of a smaller window: its offsets are the middle of the table.

    Args:
        table (Tensor): ``((2W - 1) ** 2, num_heads)``.
        window (int): ``W``.
        smaller (int): Side ``w <= W`` of the smaller window.

    Returns:
        Tensor: ``(num_heads, w * w, w * w)``.
    """
    side, cut = 2 * window - 1, window - smaller
    image = table.view(side, side, -1)[cut : side - cut, cut : side - cut]
    index = _index_on(smaller, table.device)
    return image.flatten(0, 1)[index].permute(2, 0, 1)


class _Noted(Set[int]):
    """Stages that were reported; copies of a model share it.

    A momentum teacher is a copy, and would repeat what its student said.
    """

    def __deepcopy__(self, memo: dict) -> '_Noted':
        return self


class AnySizeWindowMSA(ShiftWindowMSA):
    """Window attention that also takes maps smaller than the window.

    The stock module refuses them unless it pads them. This one shrinks the
    window to the map, without a shift, as the official code does for a
    fixed input size; the needed offsets are part of the table.

    Args:
        stock (ShiftWindowMSA): Module whose parts are taken over.
        stage (int): Stage that it is in, for the log. Defaults to 0.
        noted (set, optional): Stages whose shrunken window was reported
            before; one for the whole model. Defaults to None: none.
    """

    def __init__(
        self,
        stock: ShiftWindowMSA,
        stage: int = 0,
        noted: Optional[Set[int]] = None,
    ) -> None:
        BaseModule.__init__(self, stock.init_cfg)
        self.stage = stage
        self.noted = _Noted() if noted is None else noted
        self.shift_size = stock.shift_size
        self.window_size = stock.window_size
        self.w_msa = stock.w_msa
        self.drop = stock.drop
        self.pad_small_map = stock.pad_small_map

    def forward(self, query: Tensor, hw_shape: Tuple[int, int]) -> Tensor:
        """Attention inside the windows of a map.

        Args:
            query (Tensor): ``(B, H * W, C)``.
            hw_shape (Tuple[int, int]): ``(H, W)``.

        Returns:
            Tensor: ``(B, H * W, C)``.
        """
        if self.pad_small_map or min(hw_shape) >= self.window_size:
            return super().forward(query, hw_shape)
        if self.stage not in self.noted:
            self.noted.add(self.stage)
            self._note(hw_shape)
        return self.drop(self._shrunk(query, hw_shape, min(hw_shape)))

    def _note(self, hw: Tuple[int, int]) -> None:
        side = min(hw)
        print_log(
            f'Swin stage {self.stage}: the feature map of {hw[0]}x{hw[1]} is '
            f'smaller than the window of {self.window_size}x'
            f'{self.window_size}. The window shrinks to {side}x{side} there '
            'and is not shifted. Larger inputs, a smaller '
            'backbone.window_size or backbone.pad_small_map=True avoid it. '
            'Said once per stage.',
            logger='current',
            level=logging.WARNING,
        )

    def _shrunk(self, x: Tensor, hw: Tuple[int, int], window: int) -> Tensor:
        batch, _, channels = x.shape
        x = x.view(batch, *hw, channels)
        x = F.pad(x, (0, 0, 0, -hw[1] % window, 0, -hw[0] % window))
        padded = x.shape[1:3]
        x = self.window_partition(x, window).flatten(1, 2)

        msa = self.w_msa
        qkv = msa.qkv(x).reshape(*x.shape[:2], 3, msa.num_heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        bias = crop_table(
            msa.relative_position_bias_table, self.window_size, window
        )
        scores = query * msa.scale @ key.transpose(-2, -1) + bias
        scores = msa.attn_drop(msa.softmax(scores))
        x = (scores @ value).transpose(1, 2).reshape(x.shape)
        x = msa.proj_drop(msa.proj(x))

        x = self.window_reverse(
            x.view(-1, window, window, channels), *padded, window
        )
        x = x[:, : hw[0], : hw[1]]
        return x.reshape(batch, hw[0] * hw[1], channels)


class AnySizeSwinBlock(SwinBlock):
    """Swin block for any map size, with non-reentrant checkpointing.

    The stock block builds its attention by a fixed class and calls
    ``checkpoint`` in the form that newer torch versions deprecate.

    Args:
        stock (SwinBlock): Block whose parts are taken over.
        stage (int): See :class:`AnySizeWindowMSA`. Defaults to 0.
        noted (set, optional): See there. Defaults to None.
    """

    def __init__(
        self,
        stock: SwinBlock,
        stage: int = 0,
        noted: Optional[Set[int]] = None,
    ) -> None:
        BaseModule.__init__(self, stock.init_cfg)
        self.recompute = stock.with_cp
        self.with_cp = False
        self.norm1 = stock.norm1
        self.attn = AnySizeWindowMSA(stock.attn, stage, noted)
        self.norm2 = stock.norm2
        self.ffn = stock.ffn

    def forward(self, x: Tensor, hw_shape: Tuple[int, int]) -> Tensor:
        """Attention and feed-forward network.

        Args:
            x (Tensor): ``(B, H * W, C)``.
            hw_shape (Tuple[int, int]): ``(H, W)``.

        Returns:
            Tensor: ``(B, H * W, C)``.
        """
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(
                super().forward, x, hw_shape, use_reentrant=False
            )
        return super().forward(x, hw_shape)


@MODELS.register_module()
class SwinTransformer(_SwinTransformer):
    """Swin Transformer for any input size and any window.

    Subclass of ``mmpretrain.SwinTransformer`` with the same parameter names.
    It adds:

    * relative-position tables resized on load (window 7 to 12, ...), without
      scipy, and on request (:meth:`set_window_size`)
    * maps smaller than the window (small crops): the window shrinks, with a
      warning for each stage, unless ``pad_small_map=True`` asks for mmseg's
      and mmdet's padding
    * non-reentrant activation checkpointing

    Args:
        arch (str or dict): ``'tiny'``, ``'small'``, ``'base'``, ``'large'``
            or a dict of ``embed_dims``, ``depths`` and ``num_heads``.
            Defaults to ``'tiny'``.
        img_size (int or Tuple[int, int]): Usual input size. Defaults to 224.
        out_indices (int or Sequence[int]): Stages to return, negative ones
            from the end. Defaults to -1.
        table_mode (str): Interpolation of the tables, ``'bicubic'`` or
            ``'bilinear'``. Defaults to ``'bicubic'``.
        **kwargs: As in ``mmpretrain.SwinTransformer``:
            ``window_size``, ``with_cp``, ``pad_small_map``,
            ``drop_path_rate``, ``init_cfg``, ...

    Raises:
        ValueError: If ``arch`` or ``table_mode`` is unknown or
            ``out_indices`` names a stage that does not exist.

    Sources: Liu et al., arXiv 2103.14030; microsoft/Swin-Transformer
    ``models/swin_transformer.py`` and ``utils.py``.
    """

    # a copy of our own, see VisionTransformer
    arch_zoo: Dict[str, dict] = dict(_SwinTransformer.arch_zoo)

    def __init__(
        self,
        arch: Union[str, dict] = 'tiny',
        img_size: Union[int, Sequence[int]] = 224,
        *,
        out_indices: Union[int, Sequence[int]] = -1,
        table_mode: str = 'bicubic',
        **kwargs: Any,
    ) -> None:
        if table_mode not in MODES:
            raise ValueError(
                f'table_mode must be one of {MODES}, got {table_mode!r}.'
            )
        if isinstance(arch, str) and arch.lower() not in self.arch_zoo:
            raise ValueError(
                f'arch {arch!r} is unknown. Names: {sorted(self.arch_zoo)}; '
                'or give a dict of embed_dims, depths and num_heads.'
            )
        settings = (
            self.arch_zoo[arch.lower()] if isinstance(arch, str) else arch
        )
        lacking = {'embed_dims', 'depths', 'num_heads'} - set(settings)
        if lacking:
            raise ValueError(f'arch lacks {sorted(lacking)}: {settings}.')
        stages = len(settings['depths'])
        given = [out_indices] if isinstance(out_indices, int) else out_indices
        found = tuple(i + stages if i < 0 else i for i in given)
        if not found or any(not 0 <= i < stages for i in found):
            raise ValueError(
                f'out_indices={out_indices} must name stages 0 to '
                f'{stages - 1}.'
            )
        super().__init__(settings, img_size, out_indices=found, **kwargs)
        self.table_mode = table_mode
        noted = _Noted()
        for index, stage in enumerate(self.stages):
            stage.blocks = ModuleList(
                [AnySizeSwinBlock(b, index, noted) for b in stage.blocks]
            )

    def init_weights(self) -> None:
        """Initialise; weights of a file are never overwritten."""
        pretrained_last(self)
        super().init_weights()

    def train(self, mode: bool = True) -> 'SwinTransformer':
        """Switch the mode; frozen stages stay in evaluation mode.

        Args:
            mode (bool): Training or evaluation. Defaults to True.

        Returns:
            SwinTransformer: This module.
        """
        super().train(mode)
        return self

    def set_window_size(self, window_size: int) -> None:
        """Change the window of all stages, resizing the tables.

        The tables become new parameters: call it before the optimiser is
        built.

        Args:
            window_size (int): Side of the new window, at least 1.

        Raises:
            ValueError: If it is below 1.
        """
        if window_size < 1:
            raise ValueError(f'window_size must be >= 1, got {window_size}.')
        for module in self.modules():
            if isinstance(module, ShiftWindowMSA):
                if module.shift_size > 0:
                    module.shift_size = window_size // 2
                module.window_size = window_size
            elif isinstance(module, WindowMSA):
                table = module.relative_position_bias_table
                new = resize_rel_pos_table(
                    table.detach(),
                    module.window_size,
                    (window_size, window_size),
                    self.table_mode,
                )
                module.relative_position_bias_table = nn.Parameter(
                    new.clone(), requires_grad=table.requires_grad
                )
                module.window_size = (window_size, window_size)
                index = relative_position_index(window_size)
                module.relative_position_index = index.to(table.device)

    def _prepare_abs_pos_embed(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load hook: resize the absolute position embedding."""
        name = prefix + 'absolute_pos_embed'
        if name in state_dict:
            state_dict[name] = fit_pos_embed(
                state_dict[name],
                self.absolute_pos_embed.detach(),
                self.patch_resolution,
                self.num_extra_tokens,
                self.interpolate_mode,
            )

    def _prepare_relative_position_bias_table(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load hook: resize tables, supply index buffers, drop masks."""
        own = self.state_dict()
        for key in [k for k in state_dict if k.startswith(prefix)]:
            name = key[len(prefix) :]
            if name.endswith('.attn_mask'):
                del state_dict[key]
            elif name.endswith(TABLE) and name in own:
                table = state_dict[key]
                src, dst = len(table), len(own[name])
                if src != dst and table.shape[1:] == own[name].shape[1:]:
                    state_dict[key] = resize_rel_pos_table(
                        table,
                        (infer_window(src),) * 2,
                        (infer_window(dst),) * 2,
                        self.table_mode,
                    )
                index = name.replace(TABLE, INDEX)
                state_dict[prefix + index] = own[index]

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> Tuple[int, int]:
        """Depth of a parameter, for layer-wise learning rates.

        Args:
            param_name (str): Name of the parameter in the whole model.
            prefix (str): What this backbone's names start with there.
                Defaults to ``''``.

        Returns:
            Tuple[int, int]: Depth, 0 for the embeddings, ``i + 1`` for block
            ``i`` counted over all stages (a downsample belongs to the block
            before it), ``L + 1`` for the output norms and everything after;
            and the number of depths ``L + 2``.
        """
        if param_name == prefix + 'absolute_pos_embed':
            return 0, sum(self.depths) + 2
        return super().get_layer_depth(param_name, prefix)
