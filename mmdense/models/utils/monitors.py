"""Numbers that tell whether features are alive."""

import math
from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


def feature_spread(features: Tensor) -> Tensor:
    """Standard deviation of normalised rows times sqrt(d); 1 when spread.

    Args:
        features (Tensor): ``(rows, d)``.

    Returns:
        Tensor: A scalar; 0 if all rows are alike.
    """
    unit = F.normalize(features.detach().float(), dim=-1)
    return unit.std(dim=0, correction=0).mean() * unit.shape[-1] ** 0.5


@torch.no_grad()
def entropy_monitors(
    probs: Tensor, log_probs: Tensor, images: int
) -> Tuple[Tensor, Tensor]:
    """How sharp teacher distributions are, and how different.

    Args:
        probs (Tensor): ``(rows, K)``, rows sum to 1.
        log_probs (Tensor): Their logarithms.
        images (int): Number of images that the rows are of.

    Returns:
        Tuple[Tensor, Tensor]: Mean entropy as a share of ``log K``; and
        entropy of the mean distribution minus mean entropy, over
        ``log min(images, K)``. The second is near 0 when all rows are alike,
        whether uniform or one-hot, and 1 when every image has an output of
        its own; views of one image that differ can take it above 1.
    """
    rows, width = probs.shape
    entropy = -torch.dot(probs.flatten(), log_probs.flatten()) / rows
    mean = probs.mean(dim=0)
    joint = torch.special.entr(mean).sum()
    largest = math.log(max(2, min(images, width)))
    return entropy / math.log(width), (joint - entropy) / largest
