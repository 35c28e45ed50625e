"""How much features differ: spread, rank, and moving neighbours."""

import torch
from torch import Tensor

from mmdense.models.utils.monitors import feature_spread


def _rows(x: Tensor) -> Tensor:
    """Features as float32 rows ``(rows, D)``, whatever the leading axes."""
    if x.ndim < 2 or not x.numel():
        raise ValueError(
            f'Features of shape {tuple(x.shape)}; expected (rows, D), '
            'neither of them 0.'
        )
    return x.detach().reshape(-1, x.shape[-1]).float()


def feature_std(x: Tensor) -> Tensor:
    """Standard deviation of normalised features, times sqrt(D).

    Each row is divided by its L2 norm; the standard deviation over the rows
    (divided by their number) is taken for each of the D channels and
    averaged. A direction drawn at random from the sphere has the value 1.

    Source: Chen, He, "Exploring Simple Siamese Representation Learning",
    CVPR 2021, section 4.1, whose values are not multiplied by sqrt(D).

    Args:
        x (Tensor): Features ``(..., D)``; all leading axes are rows.

    Returns:
        Tensor: Scalar in [0, 1] up to rounding; 0 where all rows point the
        same way, NaN where a feature is not finite.

    Raises:
        ValueError: If there are no features.
    """
    return feature_spread(_rows(x))


def effective_rank(x: Tensor, center: bool = False) -> Tensor:
    r"""Number of dimensions that features use.

    With the singular values s of the matrix of features and
    :math:`p_i = s_i / \sum_j s_j` it is :math:`\exp(-\sum_i p_i \ln p_i)`.
    Not centred unless asked for: in a collapse all features are one vector
    and noise, of which the rank is 1; after centring only the noise is left,
    of which the rank may be full.

    Source: Roy, Vetterli, "The effective rank: a measure of effective
    dimensionality", EUSIPCO 2007, definition 1.

    Args:
        x (Tensor): Features ``(..., D)``; all leading axes are rows.
        center (bool): Subtract the mean row first. Defaults to False.

    Returns:
        Tensor: Scalar in [1, min(rows, D)], float32; 0 if all features are
        zero, NaN if one is not finite.

    Raises:
        ValueError: If there are no features.
    """
    rows = _rows(x).double()
    if not bool(torch.isfinite(rows).all()):
        return torch.full((), float('nan'), device=x.device)
    if center:
        rows = rows - rows.mean(dim=0)
    # the smaller of the two Gram matrices has the squares of all of them
    wide = rows.shape[0] < rows.shape[1]
    gram = rows @ rows.t() if wide else rows.t() @ rows
    scale = gram.diagonal().sum()
    if not bool(scale > 0):
        return torch.zeros((), device=x.device)
    values = torch.linalg.eigvalsh(gram / scale).clamp_min(0).sqrt()
    shares = values / values.sum()
    return torch.special.entr(shares).sum().exp().float()


def neighbor_change(before: Tensor, after: Tensor) -> Tensor:
    """Share of patches that have other neighbours than before.

    Neighbours are sets: their order does not count. Slots without a
    neighbour have to hold the same index at both times, as those of
    ``mmdense.NeighborMatching`` do.

    Args:
        before (Tensor): Neighbours of each patch ``(S, N, k)``, int64.
        after (Tensor): The same patches later ``(S, N, k)``, int64.

    Returns:
        Tensor: Scalar in [0, 1], float32.

    Raises:
        ValueError: If the shapes differ or hold no neighbours.
    """
    if before.shape != after.shape or before.ndim != 3 or not before.numel():
        raise ValueError(
            f'Neighbours of shapes {tuple(before.shape)} and '
            f'{tuple(after.shape)}; expected (S, N, k) twice, none of them 0.'
        )
    old, new = before.sort(dim=-1).values, after.sort(dim=-1).values
    return (old != new).any(dim=-1).float().mean()
