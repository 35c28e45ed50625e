"""Order of the depths of pairs of points."""

from typing import Sequence, Tuple

import numpy as np
from torch import Tensor


def wrong_pairs(
    pred: Tensor,
    pairs: np.ndarray,
    size: Sequence[int],
    prediction: str = 'inverse',
) -> Tuple[int, int]:
    """Pairs of points whose order a prediction gets wrong.

    Args:
        pred (Tensor): Prediction ``(h, w)``, read at the nearest pixel.
        pairs (ndarray): ``(n, 5)``: row and column of A, row and column of
            B, counted from 0 in an image of ``size``, then 1 if A is
            farther than B and -1 if it is nearer.
        size (Sequence[int]): Height and width of the image in which the
            points were marked; they are scaled if ``pred`` differs.
        prediction (str): 'depth' or 'inverse'. Defaults to 'inverse'.

    Returns:
        Tuple[int, int]: Wrong pairs and all pairs. Equal predictions, and
        those that are not finite, are wrong.

    Raises:
        ValueError: If ``pairs`` has another form, or a point lies outside.
    """
    pairs = np.asarray(pairs, dtype=np.float64)
    if pairs.ndim != 2 or pairs.shape[1] != 5:
        raise ValueError(
            f'pairs of points have the shape (n, 5), got {pairs.shape}'
        )
    points = pairs[:, :4].reshape(-1, 2)
    if (points < 0).any() or (points >= np.asarray(size)).any():
        raise ValueError(
            f'a point of a pair lies outside the image of {tuple(size)}'
        )
    if not np.isin(pairs[:, 4], (-1, 1)).all():
        raise ValueError('the relation of a pair has to be 1 or -1')
    factor = np.asarray(pred.shape[-2:]) / np.asarray(size)
    # the pixel that contains the centre of the marked one
    where = ((points + 0.5) * factor).astype(np.int64)
    values = pred.detach().float().cpu().numpy()[where[:, 0], where[:, 1]]
    first, second = values.reshape(-1, 2).T
    sign = 1.0 if prediction == 'depth' else -1.0
    # False for NaN
    right = sign * pairs[:, 4] * (first - second) > 0
    return int((~right).sum()), len(pairs)
