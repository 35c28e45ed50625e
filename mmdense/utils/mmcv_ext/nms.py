"""Non-maximum suppression: hard, soft and matched."""

from typing import List

import numpy as np
import torch
from torch import Tensor

from .torchvision_ops import computing_dtype, torchvision_ops

_NAIVE, _LINEAR, _GAUSSIAN = 0, 1, 2


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0
) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes (torch.Tensor): Boxes ``(x1, y1, x2, y2)`` in pixels, shape
            ``(N, 4)``.
        scores (torch.Tensor): Scores, shape ``(N,)``.
        iou_threshold (float): A box is dropped when its IoU with a kept box
            of higher score is above this, in [0, 1].
        offset (int): 0 if a box is ``x2 - x1`` wide, 1 if it is
            ``x2 - x1 + 1`` wide (pixel indices). Defaults to 0.

    Returns:
        torch.Tensor: Indices of the kept boxes by descending score, int64,
        shape ``(K,)``.

    Raises:
        ValueError: If ``offset`` is neither 0 nor 1.
    """
    if offset not in (0, 1):
        raise ValueError(f'nms: offset must be 0 or 1, got {offset}')
    dtype = computing_dtype(boxes)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    if offset:
        boxes = torch.cat((boxes[:, :2], boxes[:, 2:] + offset), dim=1)
    return torchvision_ops().nms(boxes, scores, float(iou_threshold))


def _overlaps(box: np.ndarray, others: np.ndarray, offset: int) -> np.ndarray:
    """IoU of one box ``(4,)`` with ``(N, 4)``; 0 where the union is empty."""
    top_left = np.maximum(box[:2], others[:, :2])
    bottom_right = np.minimum(box[2:], others[:, 2:])
    inter = np.clip(bottom_right - top_left + offset, 0, None).prod(axis=1)
    area = (box[2:] - box[:2] + offset).prod()
    areas = (others[:, 2:] - others[:, :2] + offset).prod(axis=1)
    union = area + areas - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union != 0)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to('cpu', computing_dtype(tensor)).numpy()


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft non-maximum suppression (Bodla et al. 2017, section 3).

    Runs on the CPU, as mmcv's operator does.

    Args:
        boxes (torch.Tensor): Boxes ``(x1, y1, x2, y2)``, shape ``(N, 4)``.
        scores (torch.Tensor): Scores, shape ``(N,)``.
        dets (torch.Tensor): Buffer of shape ``(N, 5)``; its first K rows
            become the kept boxes and their decayed scores.
        iou_threshold (float): IoU from which on scores decay (methods 0, 1).
        sigma (float): Width of the Gaussian decay (method 2).
        min_score (float): Boxes that decay below this are dropped.
        method (int): 0 sets the scores to zero (hard suppression), 1
            multiplies them by ``1 - IoU``, 2 by ``exp(-IoU^2 / sigma)``.
        offset (int): 0 or 1, see :func:`nms`.

    Returns:
        torch.Tensor: Indices of the kept boxes by descending decayed score,
        int64, shape ``(K,)``.

    Raises:
        ValueError: If ``method`` is unknown.
    """
    if method not in (_NAIVE, _LINEAR, _GAUSSIAN):
        raise ValueError(f'softnms: method must be 0, 1 or 2, got {method}')
    coords, left = _to_numpy(boxes), _to_numpy(scores).copy()
    alive = np.arange(len(left))
    kept: List[int] = []
    rows: List[np.ndarray] = []
    while len(alive):
        best = int(left.argmax())
        index = int(alive[best])
        kept.append(index)
        rows.append(np.append(coords[index], left[best]))
        alive, left = np.delete(alive, best), np.delete(left, best)
        overlap = _overlaps(coords[index], coords[alive], offset)
        if method == _GAUSSIAN:
            left = left * np.exp(-(overlap**2) / sigma)
        else:
            decayed = 0.0 if method == _NAIVE else 1 - overlap
            left = left * np.where(overlap >= iou_threshold, decayed, 1)
        stays = left >= min_score
        alive, left = alive[stays], left[stays]
    if rows:
        dets[: len(rows)] = torch.from_numpy(np.stack(rows)).to(dets)
    return torch.tensor(kept, dtype=torch.int64)


def nms_match(dets: Tensor, iou_threshold: float) -> List[List[int]]:
    """Group each kept box with the boxes it suppresses.

    Args:
        dets (torch.Tensor): Boxes with scores, shape ``(N, 5)``.
        iou_threshold (float): IoU from which on a box joins the group of a
            box of higher score.

    Returns:
        List[List[int]]: For each kept box, by descending score, its index
        followed by those it suppresses, by descending score.
    """
    values = _to_numpy(dets)
    order = np.argsort(-values[:, 4], kind='stable')
    groups: List[List[int]] = []
    while len(order):
        first, rest = int(order[0]), order[1:]
        overlap = _overlaps(values[first, :4], values[rest, :4], offset=0)
        joins = overlap >= iou_threshold
        groups.append([first, *rest[joins].tolist()])
        order = rest[~joins]
    return groups
