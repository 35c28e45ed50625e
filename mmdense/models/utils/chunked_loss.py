"""Loss of many rows with only one chunk of activations alive."""

from typing import Any, Callable, List, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# rows ``(n, ...)``, first and last row of the chunk -> sum of the losses
ChunkLoss = Callable[[Tensor, int, int], Tensor]


def _autocast_state(kind: str) -> Tuple[bool, torch.dtype]:
    if hasattr(torch, 'get_autocast_dtype'):
        return torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    # torch < 2.4
    if kind == 'cpu':
        return torch.is_autocast_cpu_enabled(), torch.get_autocast_cpu_dtype()
    return torch.is_autocast_enabled(), torch.get_autocast_gpu_dtype()


class _ChunkedLoss(torch.autograd.Function):
    """Takes the gradients of each chunk while its activations are there.

    The sum of losses has a known gradient up to a factor, so nothing has to
    be kept, or computed again, for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        function: ChunkLoss,
        chunk: int,
        inputs: Tensor,
        *params: Tensor,
    ) -> Tensor:
        total = inputs.new_zeros((), dtype=torch.float32)
        grad_inputs = torch.empty_like(inputs)
        grads = [torch.zeros_like(p) for p in params]
        # a kept cast of a weight may be of another pass, without gradient
        kind = inputs.device.type
        cast, dtype = _autocast_state(kind)
        for start in range(0, len(inputs), chunk):
            stop = min(start + chunk, len(inputs))
            piece = inputs[start:stop].detach().requires_grad_()
            with (
                torch.enable_grad(),
                torch.autocast(kind, dtype, enabled=cast, cache_enabled=False),
            ):
                value = function(piece, start, stop)
            grad, *others = torch.autograd.grad(value, (piece, *params))
            grad_inputs[start:stop] = grad
            if grads:
                torch._foreach_add_(grads, others)
            total += value.detach().float()
        ctx.save_for_backward(grad_inputs, *grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tuple[Any, ...]:
        grads: List[Tensor] = list(ctx.saved_tensors)
        return (None, None, *(g * grad.to(g.dtype) for g in grads))


def chunked_loss(
    function: ChunkLoss,
    chunk: int,
    inputs: Tensor,
    modules: Sequence[nn.Module],
) -> Tensor:
    """Sum of a loss over rows, chunk by chunk.

    Equal to ``function(inputs, 0, len(inputs))`` where rows do not depend on
    each other, with the memory of one chunk. Gradients reach ``inputs`` and
    the parameters of ``modules`` only.

    Args:
        function (Callable): Takes rows ``inputs[start:stop]``, ``start`` and
            ``stop``; returns the sum of their losses, a scalar.
        chunk (int): Rows in a chunk, at least 1.
        inputs (Tensor): ``(rows, ...)``.
        modules (Sequence[nn.Module]): Whatever ``function`` uses that is
            trained; every trained parameter must take part.

    Returns:
        Tensor: The sum, a float32 scalar.
    """
    params = [p for m in modules for p in m.parameters() if p.requires_grad]
    if torch.is_grad_enabled():
        return _ChunkedLoss.apply(function, chunk, inputs, *params)
    total = inputs.new_zeros((), dtype=torch.float32)
    for start in range(0, len(inputs), chunk):
        stop = min(start + chunk, len(inputs))
        total += function(inputs[start:stop], start, stop).float()
    return total
