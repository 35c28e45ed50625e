"""InfoNCE with a queue of keys."""

import torch
from torch import Tensor
from torch import distributed as dist

from mmdense.utils.dist import process_info
from mmdense.utils.errors import UserValueError


def check_queue(size: int, keys: int, option: str) -> None:
    """Refuse a queue that the keys of a step do not fill evenly.

    Args:
        size (int): Length of the queue.
        keys (int): Keys that all processes add to it in a step.
        option (str): Config key of the length, for the message.

    Raises:
        UserValueError: If ``keys`` does not divide ``size``.
    """
    if size % keys:
        fitting = [n for n in range(1, size + 1) if size % n == 0]
        near = min(fitting, key=lambda n: abs(n - keys))
        raise UserValueError(
            f'{option}={size} is not divisible by the {keys} keys that a '
            'step adds (images of all processes, once for each view that '
            'goes into the queue). The nearest number that fits '
            f'is {near}; change train_dataloader.batch_size or {option}.'
        )


@torch.no_grad()
def gather_keys(keys: Tensor) -> Tensor:
    """Keys of all processes in rank order, ``(world_size * B, d)``."""
    if process_info()[1] == 1:
        return keys
    parts = [torch.empty_like(keys) for _ in range(process_info()[1])]
    dist.all_gather(parts, keys.contiguous())
    return torch.cat(parts)


def enqueue(queue: Tensor, keys: Tensor, pointer: Tensor) -> None:
    """Write keys into the columns of a queue, without a device sync.

    Args:
        queue (Tensor): ``(d, K)``, changed in place.
        keys (Tensor): ``(n, d)``.
        pointer (Tensor): First column, int64 ``(1,)``.
    """
    places = torch.arange(len(keys), device=queue.device) + pointer
    queue.index_copy_(1, places % queue.shape[1], keys.t().to(queue.dtype))


def info_nce(
    query: Tensor, key: Tensor, queue: Tensor, temperature: float
) -> Tensor:
    """InfoNCE with one positive and a queue of negatives.

    Source: He et al., "Momentum Contrast", CVPR 2020, equation 1.

    Args:
        query (Tensor): Normalised ``(n, d)``.
        key (Tensor): Normalised positives ``(n, d)``.
        queue (Tensor): Normalised negatives ``(d, K)``.
        temperature (float): Above 0.

    Returns:
        Tensor: Mean over the queries, a scalar.
    """
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat((positive, query @ queue), dim=1) / temperature
    return (logits.logsumexp(dim=1) - logits[:, 0]).mean()
