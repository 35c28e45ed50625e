"""Samplers whose indices carry the randomness of the sample."""

from typing import Any, Iterator

from mmengine.dataset import DefaultSampler

from mmdense.registry import DATA_SAMPLERS

from ..utils.rng import mix_seed


class SeededIndex(int):
    """Index of a sample that knows the seed of its augmentations.

    It is an ``int`` to everybody who does not ask. What data set wrappers do
    to an index (``idx % length`` in ``RepeatDataset``, ``idx - start`` in
    ``ConcatDataset``) keeps the seed.

    Args:
        index (int): Index of the sample.
        seed (int): 64-bit seed.
    """

    seed: int

    def __new__(cls, index: int, seed: int) -> 'SeededIndex':  # noqa: D102
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __mod__(self, other: int) -> 'SeededIndex':
        return SeededIndex(int(self) % other, self.seed)

    def __sub__(self, other: int) -> 'SeededIndex':
        return SeededIndex(int(self) - other, self.seed)

    def __add__(self, other: int) -> 'SeededIndex':
        return SeededIndex(int(self) + other, self.seed)

    def __reduce__(self) -> Any:
        return SeededIndex, (int(self), self.seed)


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """``DefaultSampler`` that gives every sample of every epoch a seed.

    The order is that of the stock sampler with the same arguments. The seed
    depends on the seed of the run, the epoch and the index of the sample,
    and on nothing else: a data set that draws from it (as
    :class:`mmdense.UnlabeledImages` does) gives bit-equal samples for any
    number of workers and processes and after resuming.

    Args:
        dataset (Sized): The data set.
        shuffle (bool): Shuffle, anew in every epoch. Defaults to True.
        seed (int, optional): Seed of the run, the same on all processes.
            Defaults to None, a random one shared by the processes.
        round_up (bool): Repeat samples until the processes have equally
            many. Defaults to True.
    """

    def __iter__(self) -> Iterator[int]:
        """Yield :class:`SeededIndex` in the order of the epoch."""
        for index in super().__iter__():
            yield SeededIndex(index, mix_seed(self.seed, self.epoch, index))
