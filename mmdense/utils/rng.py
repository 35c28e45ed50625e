"""Random state as a function of a seed, for one sample at a time."""

import random
from contextlib import contextmanager
from typing import Iterator

import numpy as np
import torch

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def splitmix64(value: int) -> int:
    """Spread the bits of a 64-bit integer.

    Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
    Generators", OOPSLA 2014, figure 15 (with the constants of variant 13 of
    Stafford, as in ``java.util.SplittableRandom``).

    Args:
        value (int): Any integer; its low 64 bits count.

    Returns:
        int: In [0, 2**64). A bijection of the low 64 bits.
    """
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def mix_seed(*parts: int) -> int:
    """One 64-bit seed from several integers; their order matters.

    Args:
        *parts (int): For instance run seed, epoch and sample index.

    Returns:
        int: In [0, 2**64).
    """
    seed = 0
    for part in parts:
        seed = splitmix64(seed ^ splitmix64(part))
    return seed


@contextmanager
def sample_rng(seed: int) -> Iterator[None]:
    """Draw from generators that depend on a seed alone.

    Inside, Python's, numpy's global and torch's CPU generators start from
    ``seed``; afterwards they go on where they were before. Generators of
    devices are left alone.

    Args:
        seed (int): 64-bit seed, for instance of :func:`mix_seed`.

    Example:
        >>> with sample_rng(mix_seed(0, 1, 2)):
        ...     value = random.random()
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    # the module functions of torch would seed CUDA as well
    torch_state = torch.default_generator.get_state()
    random.seed(seed & _MASK)
    words = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF]
    np.random.seed(words)
    torch.default_generator.manual_seed(splitmix64(seed) >> 1)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.default_generator.set_state(torch_state)
