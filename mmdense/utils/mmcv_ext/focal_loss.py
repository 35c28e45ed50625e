"""Sigmoid focal loss (Lin et al. 2017, equation 5), element by element."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .torchvision_ops import computing_dtype


class _Terms(NamedTuple):
    positive: Tensor  # whether the class is the label, as 0 or 1, (N, C)
    balance: Tensor  # alpha or 1 - alpha, times the class weight, (N, C)
    log_p: Tensor  # log of the probability of the class, (N, C)
    log_q: Tensor  # log of the probability of not the class, (N, C)


def _terms(
    input: Tensor, target: Tensor, weight: Tensor, alpha: float
) -> _Terms:
    logits = input.to(computing_dtype(input))
    classes = logits.shape[1]
    numbers = torch.arange(classes, device=logits.device)
    positive = (target[:, None] == numbers).to(logits)
    balance = positive * alpha + (1 - positive) * (1 - alpha)
    if weight.numel():
        label = target.clamp(0, classes - 1)
        # Background has no entry in the class weights: it counts as 1.
        in_range = (target == label).to(logits)
        per_row = weight.to(logits)[label] * in_range + (1 - in_range)
        balance = balance * per_row[:, None]
    return _Terms(
        positive, balance, F.logsigmoid(logits), F.logsigmoid(-logits)
    )


def sigmoid_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Focal loss of each logit.

    Args:
        input (torch.Tensor): Logits, shape ``(N, C)``.
        target (torch.Tensor): Labels, int64, shape ``(N,)``; those outside
            0 to C - 1 are background, positive for no class.
        weight (torch.Tensor): Weight of a row by its label, shape ``(C,)``,
            or empty.
        output (torch.Tensor): Buffer of shape ``(N, C)``, overwritten.
        gamma (float): Exponent that damps easy examples, at least 0.
        alpha (float): Weight of the positive class, in [0, 1].
    """
    terms = _terms(input, target, weight, alpha)
    hit = -terms.log_q.exp().pow(gamma) * terms.log_p
    miss = -terms.log_p.exp().pow(gamma) * terms.log_q
    output.copy_(terms.balance * torch.where(terms.positive > 0, hit, miss))


def sigmoid_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Derivative of each element of the focal loss by its logit.

    Args:
        input (torch.Tensor): As in the forward pass.
        target (torch.Tensor): As in the forward pass.
        weight (torch.Tensor): As in the forward pass.
        grad_input (torch.Tensor): Buffer of shape ``(N, C)``, overwritten.
        gamma (float): As in the forward pass.
        alpha (float): As in the forward pass.
    """
    terms = _terms(input, target, weight, alpha)
    p, q = terms.log_p.exp(), terms.log_q.exp()
    hit = q.pow(gamma) * (gamma * p * terms.log_p - q)
    miss = p.pow(gamma) * (p - gamma * q * terms.log_q)
    grad_input.copy_(
        terms.balance * torch.where(terms.positive > 0, hit, miss)
    )
