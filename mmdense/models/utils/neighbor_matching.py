"""Which neighbours of a patch look most like it."""

import logging
from typing import Dict, NamedTuple, Optional, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from mmdense.utils.errors import UserValueError

BORDERS = ('mask', 'wrap')
Grid = Tuple[int, int]


def _check_window(window: Union[int, str]) -> None:
    odd = isinstance(window, int) and window >= 3 and window % 2 == 1
    if window != 'all' and not odd:
        raise UserValueError(
            f"model.matching.window={window!r}: needs 3, 5, 7, ... or 'all'."
        )


def neighbor_table(
    hw: Grid, window: Union[int, str] = 3, border: str = 'mask'
) -> Tuple[Tensor, Tensor]:
    """Neighbours of every patch of a grid.

    Args:
        hw (Tuple[int, int]): Grid, ``N = H * W`` patches, row by row.
        window (int or str): Odd side of the square around a patch, or
            ``'all'`` for the whole grid. Defaults to 3.
        border (str): Neighbours outside the grid: ``'mask'`` marks them
            invalid, ``'wrap'`` takes those of the opposite side (the
            official code). Defaults to ``'mask'``.

    Returns:
        Tuple[Tensor, Tensor]: Indices ``(N, M)``, int64, and whether they
        are inside the grid ``(N, M)``, bool. ``M`` is ``window ** 2 - 1`` or
        ``N - 1``; the patch itself is never among them. With ``'wrap'`` they
        ascend; invalid ones point at the patch itself.

    Raises:
        ValueError: If the window is no odd number from 3 on or does not fit
            into the grid when wrapped.
    """
    height, width = hw
    count = height * width
    own = torch.arange(count)
    if window == 'all':
        others = own.expand(count, -1)[~torch.eye(count, dtype=torch.bool)]
        index = others.reshape(count, count - 1)
        return index, torch.ones_like(index, dtype=torch.bool)
    _check_window(window)
    window = int(window)
    if border == 'wrap' and min(hw) < window:
        raise UserValueError(
            f'A grid of {height}x{width} patches is smaller than the window '
            f"of {window}x{window}: with model.matching.border='wrap' a patch "
            "would be its own neighbour. Use border='mask' or larger crops."
        )
    reach = torch.arange(window) - window // 2
    dy, dx = torch.meshgrid(reach, reach, indexing='ij')
    offsets = torch.stack([dy.flatten(), dx.flatten()])
    offsets = offsets[:, (offsets != 0).any(dim=0)]
    y = (own // width)[:, None] + offsets[0]
    x = (own % width)[:, None] + offsets[1]
    if border == 'wrap':
        index = (y % height) * width + x % width
        return index.sort(dim=1).values, torch.ones_like(index).bool()
    valid = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return torch.where(valid, y * width + x, own[:, None]), valid


class Neighbors(NamedTuple):
    """The most similar neighbours of every patch.

    Attributes:
        chosen (Tensor): Flat patch indices ``(S, N, k)``, int64, most similar
            first.
        valid (Tensor or None): Which of them exist ``(S, N, k)``, bool;
            None if all do.
    """

    chosen: Tensor
    valid: Optional[Tensor]


class NeighborMatching(nn.Module):
    """Choose the top-k neighbours of every patch by cosine similarity.

    Source: Yun et al., "Patch-level Representation Learning for
    Self-supervised Vision Transformers", CVPR 2022, section 3.2;
    alinlab/SelfPatch ``selfpatch_vision_transformer.py``.

    Args:
        window (int or str): See :func:`neighbor_table`. Defaults to 3.
        top_k (int): Number ``k`` of neighbours to keep. Defaults to 4.
        border (str): See :func:`neighbor_table`. Defaults to ``'mask'``.

    Raises:
        ValueError: If an option is out of its range, for instance ``top_k``
            above the number of neighbours.
    """

    def __init__(
        self,
        window: Union[int, str] = 3,
        top_k: int = 4,
        border: str = 'mask',
    ) -> None:
        super().__init__()
        if border not in BORDERS:
            raise UserValueError(
                f'model.matching.border={border!r}: needs one of {BORDERS}.'
            )
        _check_window(window)
        limit = None if window == 'all' else int(window) ** 2 - 1
        if top_k < 1 or (limit is not None and top_k > limit):
            raise UserValueError(
                f'model.matching.top_k={top_k}: a window of {window}x'
                f'{window} has {limit} neighbours; needs 1 to {limit}.'
                if limit
                else f'model.matching.top_k={top_k}: needs at least 1.'
            )
        self.window = window
        self.top_k = top_k
        self.border = border
        self._tables: Dict[Tuple, Tuple[Tensor, Optional[Tensor]]] = {}

    def table(
        self, hw: Grid, device: Union[torch.device, str] = 'cpu'
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """Cached neighbours of a grid.

        Args:
            hw (Tuple[int, int]): Grid.
            device (torch.device): Where the table is wanted. Defaults to
                ``'cpu'``.

        Returns:
            tuple: Indices ``(N, M)`` and which are valid; None if all are.

        Raises:
            ValueError: If a patch of this grid has too few neighbours.
        """
        key = (tuple(hw), str(device))
        if key not in self._tables:
            index, valid = neighbor_table(hw, self.window, self.border)
            counts = valid.sum(dim=1)
            fewest = int(counts.min()) if index.numel() else 0
            if fewest < 1 or index.shape[1] < self.top_k:
                raise UserValueError(
                    f'A crop of {hw[0]}x{hw[1]} patches gives a patch '
                    f'{fewest} neighbours, and model.matching.top_k='
                    f'{self.top_k} are asked for. Use larger crops, smaller '
                    'patches or a smaller top_k.'
                )
            # corners may have fewer than top_k, but not all patches
            if int(counts.max()) < self.top_k:
                print_log(
                    f'A patch of a {hw[0]}x{hw[1]} grid has at most '
                    f'{int(counts.max())} neighbours: these are taken '
                    f'instead of model.matching.top_k={self.top_k}.',
                    logger='current',
                    level=logging.WARNING,
                )
            self._tables[key] = (
                index.to(device),
                None if bool(valid.all()) else valid.to(device),
            )
        return self._tables[key]

    @torch.no_grad()
    def similarity(self, tokens: Tensor, hw: Grid) -> Tensor:
        """Cosine similarity of every patch to its neighbours.

        Args:
            tokens (Tensor): Patch tokens ``(S, N, D)``.
            hw (Tuple[int, int]): Their grid.

        Returns:
            Tensor: ``(S, N, M)``, float32, in the order of :meth:`table`;
            minus infinity for neighbours outside the grid.
        """
        index, valid = self.table(hw, tokens.device)
        with torch.autocast(tokens.device.type, enabled=False):
            unit = F.normalize(tokens.float(), dim=-1)
            # the N x N products cost little, N x M gathered tokens much
            gram = unit @ unit.transpose(1, 2)
        scores = gram.gather(2, index.expand(len(tokens), -1, -1))
        if valid is not None:
            scores = scores.masked_fill(~valid, float('-inf'))
        return scores

    @torch.no_grad()
    def forward(self, tokens: Tensor, hw: Grid) -> Neighbors:
        """Choose neighbours.

        Args:
            tokens (Tensor): Patch tokens ``(S, N, D)``, not normalised.
            hw (Tuple[int, int]): Their grid, ``N = H * W``.

        Returns:
            Neighbors: The ``k`` most similar neighbours of every patch.

        Raises:
            ValueError: If the grid does not fit the tokens, or is too small.
        """
        if tokens.ndim != 3 or tokens.shape[1] != hw[0] * hw[1]:
            raise UserValueError(
                f'Tokens of shape {tuple(tokens.shape)} do not fit a grid of '
                f'{hw[0]}x{hw[1]} patches.'
            )
        index, valid = self.table(hw, tokens.device)
        scores = self.similarity(tokens, hw)
        slots = scores.topk(self.top_k, dim=-1).indices
        count = len(tokens)
        chosen = index.expand(count, -1, -1).gather(2, slots)
        if valid is None or self._fewest(hw) >= self.top_k:
            return Neighbors(chosen, None)
        return Neighbors(chosen, valid.expand(count, -1, -1).gather(2, slots))

    def _fewest(self, hw: Grid) -> int:
        """Neighbours of a corner: the least that a patch has."""
        side = int(self.window) // 2 + 1
        return min(side, hw[0]) * min(side, hw[1]) - 1
