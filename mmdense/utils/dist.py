"""Communication between processes that keeps gradients."""

from typing import Any, Tuple

import torch
from torch import Tensor
from torch import distributed as dist


def process_info() -> Tuple[int, int]:
    """Rank and number of processes; ``(0, 1)`` outside a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _GatherWithGrad(torch.autograd.Function):
    """all_gather whose backward adds up what every process sends back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        tensor = tensor.contiguous()
        parts = [torch.empty_like(tensor) for _ in range(process_info()[1])]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # not in place: the gradient may have other consumers
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        rank, world_size = process_info()
        size = grad.shape[0] // world_size
        return grad[rank * size : (rank + 1) * size]


def gather_with_grad(tensor: Tensor) -> Tensor:
    """Concatenate a tensor of all processes; gradients flow to each.

    With the mean over processes that DDP takes of parameter gradients, a
    loss on gathered tensors trains as the same loss on the joint batch does
    in one process.

    Args:
        tensor (Tensor): Shape ``(B, ...)``, the same on every process.

    Returns:
        Tensor: ``(world_size * B, ...)`` in rank order; the input itself in
        one process.
    """
    if process_info()[1] == 1:
        return tensor
    return _GatherWithGrad.apply(tensor)
