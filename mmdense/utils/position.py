"""Resizing of position embeddings and relative-position tables.

The one place of the package where positions are interpolated: on load, on
the fly and in the converters.
"""

import math
from functools import lru_cache
from typing import Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

Grid = Tuple[int, int]

RULES = ('size', 'scale')
MODES = ('bicubic', 'bilinear')


class PositionError(ValueError):
    """A position embedding that does not fit the grid it is said to have."""


@lru_cache(maxsize=1024)
def _log_once(what: str, src: Grid, dst: Grid, mode: str, rule: str) -> None:
    print_log(
        f'Resized {what} from {src[0]}x{src[1]} to {dst[0]}x{dst[1]} '
        f'({mode}, rule {rule!r}).',
        logger='current',
    )


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(
            f'{name} must be one of {tuple(choices)}, got {value!r}.'
        )


def resize_pos_embed(
    pos_embed: Tensor,
    src: Grid,
    dst: Grid,
    mode: str = 'bicubic',
    rule: str = 'size',
    num_extra_tokens: int = 1,
    log: bool = True,
    align_corners: bool = False,
) -> Tensor:
    """Interpolate a position embedding to another patch grid.

    The entries of extra tokens (class, distillation, register) come first
    and stay as they are. Interpolation runs in fp32 whatever the input.

    Two rules exist for the sampling positions. ``'size'`` asks for the
    target size (BEiT, DPT, timm, OpenMMLab). ``'scale'`` asks for the factor
    ``(g + 0.1) / g_src`` of each side and samples with that factor (DINO and
    SelfPatch, ``interpolate_pos_encoding`` in facebookresearch/dino
    ``vision_transformer.py``); the two differ visibly.

    Args:
        pos_embed (Tensor): ``(1, num_extra_tokens + H * W, C)``.
        src (Tuple[int, int]): Its grid ``(H, W)``.
        dst (Tuple[int, int]): The wanted grid ``(H', W')``.
        mode (str): ``'bicubic'`` or ``'bilinear'``. Defaults to
            ``'bicubic'``.
        rule (str): ``'size'`` or ``'scale'``. Defaults to ``'size'``.
        num_extra_tokens (int): Entries before the patches. Defaults to 1.
        log (bool): Say so in the log, once per (from, to, mode, rule).
            Defaults to True.
        align_corners (bool): Let the outer samples coincide; with rule
            ``'size'`` only. No released model needs it. Defaults to False.

    Returns:
        Tensor: ``(1, num_extra_tokens + H' * W', C)`` in the input's dtype;
        the input itself if the grids are equal.

    Raises:
        PositionError: If the length does not agree with ``src``.
        ValueError: If ``mode`` or ``rule`` is unknown.
    """
    _check_choice('mode', mode, MODES)
    _check_choice('rule', rule, RULES)
    src, dst = (int(src[0]), int(src[1])), (int(dst[0]), int(dst[1]))
    if pos_embed.ndim != 3 or (
        pos_embed.shape[1] != num_extra_tokens + src[0] * src[1]
    ):
        raise PositionError(
            f'pos_embed of shape {tuple(pos_embed.shape)} does not hold '
            f'{num_extra_tokens} extra tokens and a {src[0]}x{src[1]} grid. '
            'Check img_size, patch_size and with_cls_token.'
        )
    if min(dst) < 1:
        raise PositionError(
            f'The target grid {dst} is empty: the image is smaller than one '
            'patch.'
        )
    if src == dst:
        return pos_embed
    extra, patches = (
        pos_embed[:, :num_extra_tokens],
        pos_embed[:, num_extra_tokens:],
    )
    grid = patches.reshape(1, *src, -1).permute(0, 3, 1, 2).float()
    if rule == 'size':
        grid = F.interpolate(
            grid, size=dst, mode=mode, align_corners=align_corners
        )
    else:
        grid = F.interpolate(
            grid,
            scale_factor=((dst[0] + 0.1) / src[0], (dst[1] + 0.1) / src[1]),
            mode=mode,
            align_corners=False,
            recompute_scale_factor=False,
        )
    if log:
        _log_once('position embedding', src, dst, mode, rule)
    patches = grid.flatten(2).transpose(1, 2).to(pos_embed.dtype)
    return torch.cat((extra, patches), dim=1)


def infer_grid(num_patches: int, like: Optional[Grid] = None) -> Grid:
    """Guess the grid of a position embedding from its length.

    Args:
        num_patches (int): Entries without the extra tokens.
        like (Tuple[int, int], optional): Grid of the model that loads it;
            its own size, then its aspect ratio, are tried besides a square.

    Returns:
        Tuple[int, int]: ``(H, W)``.

    Raises:
        PositionError: If neither a square nor the ratio of ``like`` fits.
    """
    if like is not None and like[0] * like[1] == num_patches:
        return like
    side = math.isqrt(max(num_patches, 0))
    if num_patches > 0 and side * side == num_patches:
        return side, side
    if like is not None and num_patches > 0:
        height = round(math.sqrt(num_patches * like[0] / like[1]))
        if height and num_patches % height == 0:
            width = num_patches // height
            if height * like[1] == width * like[0]:
                return height, width
    raise PositionError(
        f'Cannot tell the grid of a position embedding with {num_patches} '
        'patches: it is not square'
        + (f' and has not the ratio of {like[0]}x{like[1]}' if like else '')
        + '. Say it: pos_grid=(H, W).'
    )


def _split_length(
    length: int, extra: int, dst: Grid, src: Optional[Grid]
) -> Tuple[int, Grid]:
    """Number of extra tokens and grid of an embedding of some length."""
    candidates = dict.fromkeys((extra, 1, 0, 2))
    if src is not None:
        for count in candidates:
            if length - count == src[0] * src[1]:
                return count, src
        raise PositionError(
            f'pos_grid {src[0]}x{src[1]} does not fit a position embedding '
            f'of {length} entries.'
        )
    for count in candidates:
        try:
            return count, infer_grid(length - count, dst)
        except PositionError:
            continue
    return extra, infer_grid(length - extra, dst)


def fit_pos_embed(
    pos_embed: Tensor,
    current: Tensor,
    dst: Grid,
    num_extra_tokens: int = 1,
    mode: str = 'bicubic',
    rule: str = 'size',
    src: Optional[Grid] = None,
) -> Tensor:
    """Make a loaded position embedding fit a model.

    Drops the entries of extra tokens that the model has not, keeps the
    model's own for those that the file has not, and resizes the grid.

    Args:
        pos_embed (Tensor): From a file, ``(1, M, C)``.
        current (Tensor): The model's own, ``(1, N, C)``.
        dst (Tuple[int, int]): The model's grid.
        num_extra_tokens (int): Extra tokens of the model. Defaults to 1.
        mode (str): See :func:`resize_pos_embed`. Defaults to ``'bicubic'``.
        rule (str): See :func:`resize_pos_embed`. Defaults to ``'size'``.
        src (Tuple[int, int], optional): Grid of the file. Defaults to None:
            the model's if the length is the same, else as
            :func:`infer_grid`.

    Returns:
        Tensor: ``(1, N, C)``; the input itself if it fits.

    Raises:
        PositionError: If the grid of the file cannot be told.
    """
    if pos_embed.ndim != 3 or pos_embed.shape[-1] != current.shape[-1]:
        return pos_embed  # another width: the loader reports the shapes
    dst = (int(dst[0]), int(dst[1]))
    if pos_embed.shape == current.shape and src in (None, dst):
        return pos_embed
    count, src = _split_length(pos_embed.shape[1], num_extra_tokens, dst, src)
    kept = pos_embed[:, : min(count, num_extra_tokens)]
    own = current[:, count:num_extra_tokens].to(pos_embed)
    merged = torch.cat((kept, own, pos_embed[:, count:]), dim=1)
    return resize_pos_embed(merged, src, dst, mode, rule, num_extra_tokens)


def resize_rel_pos_table(
    table: Tensor, src_window: Grid, dst_window: Grid, mode: str = 'bicubic'
) -> Tensor:
    """Interpolate a relative-position bias table to another window.

    The rule of the official Swin loader (microsoft/Swin-Transformer
    ``utils.py``): the table is an image of ``(2H - 1) x (2W - 1)`` offsets.

    Args:
        table (Tensor): ``((2H - 1) * (2W - 1), num_heads)``.
        src_window (Tuple[int, int]): Its window ``(H, W)``.
        dst_window (Tuple[int, int]): The wanted window.
        mode (str): ``'bicubic'`` or ``'bilinear'``. Defaults to
            ``'bicubic'``.

    Returns:
        Tensor: ``((2H' - 1) * (2W' - 1), num_heads)`` in the input's dtype;
        the input itself if the windows are equal.

    Raises:
        PositionError: If the length does not agree with ``src_window``.
    """
    _check_choice('mode', mode, MODES)
    src = (2 * int(src_window[0]) - 1, 2 * int(src_window[1]) - 1)
    dst = (2 * int(dst_window[0]) - 1, 2 * int(dst_window[1]) - 1)
    if table.ndim != 2 or table.shape[0] != src[0] * src[1]:
        raise PositionError(
            f'Relative-position table of shape {tuple(table.shape)} does not '
            f'belong to a {src_window[0]}x{src_window[1]} window, which has '
            f'{src[0] * src[1]} offsets.'
        )
    if src == dst:
        return table
    image = table.float().t().reshape(1, -1, *src)
    image = F.interpolate(image, size=dst, mode=mode, align_corners=False)
    _log_once('relative-position tables', src, dst, mode, 'size')
    return image.flatten(2)[0].t().contiguous().to(table.dtype)


def infer_window(num_offsets: int) -> int:
    """Side of the square window that a table of this length belongs to.

    Args:
        num_offsets (int): First dimension of the table, ``(2W - 1) ** 2``.

    Returns:
        int: ``W``.

    Raises:
        PositionError: If there is none.
    """
    side = math.isqrt(num_offsets)
    if side * side != num_offsets or side % 2 == 0:
        raise PositionError(
            f'A relative-position table of {num_offsets} offsets belongs to '
            'no square window.'
        )
    return (side + 1) // 2
