"""A mixture of depth data sets with weights."""

import bisect
import logging
from typing import Any, List, Optional, Sequence, Tuple

from mmengine.dataset import ConcatDataset
from mmengine.logging import print_log

from mmdense.registry import DATASETS
from mmdense.utils.errors import UserValueError

from ...utils.rng import mix_seed
from .errors import MissingDepthError


@DATASETS.register_module()
class MixedDepth(ConcatDataset):
    """Several data sets, each with its share of the samples.

    Without ``dataset_weights`` this is a concatenation. With them, an epoch
    gets longer: it goes once through the set that is longest for its weight
    and several times through the others, so that every set has its share
    exactly and every sample comes up in every epoch. Which sample an index
    means is fixed; the order, the split over processes and what follows
    after resuming are those of any sampler (``DefaultSampler``,
    ``InfiniteSampler``, :class:`mmdense.SeededSampler`) on a data set of
    this length.

    With ``epoch_length`` an epoch has that many samples. Then a sample is
    drawn from its set by the seed of the index, which
    :class:`mmdense.SeededSampler` makes of the seed of the run, the epoch
    and the index; other samplers cannot be used.

    Args:
        datasets (Sequence[dict]): Data sets, or their configs.
        dataset_weights (Sequence[float], optional): Share of each of
            ``datasets``, positive, in any unit. None for their lengths.
            Defaults to None.
        epoch_length (int, optional): Samples an epoch. None for the length
            above. Defaults to None.
        missing (str): What a data set does whose files are not there:
            'raise', or 'skip' with a warning that names it. Defaults to
            'raise'.
        lazy_init (bool): Read lists at first use. Defaults to False.

    Raises:
        UserValueError: If an argument cannot be used.
        MissingDepthError: If a data set is not there, or none with 'skip'.
    """

    def __init__(
        self,
        datasets: Sequence[Any],
        dataset_weights: Optional[Sequence[float]] = None,
        epoch_length: Optional[int] = None,
        missing: str = 'raise',
        lazy_init: bool = False,
    ) -> None:
        if missing not in ('raise', 'skip'):
            raise UserValueError(
                f"MixedDepth: missing={missing!r}, choose 'raise' or 'skip'"
            )
        if epoch_length is not None and epoch_length < 1:
            raise UserValueError(
                f'MixedDepth: epoch_length={epoch_length}, use a positive '
                'number or None'
            )
        weights = list(dataset_weights) if dataset_weights else None
        if weights is not None and (
            len(weights) != len(datasets) or min(weights) <= 0
        ):
            raise UserValueError(
                f'MixedDepth: dataset_weights={weights} have to be '
                f'{len(datasets)} positive numbers, one for each data set'
            )
        kept, problems = _build(datasets, missing)
        if not kept:
            raise MissingDepthError(
                'MixedDepth: none of the data sets is there:\n'
                + '\n'.join(problems)
            )
        if problems:
            print_log(
                f'MixedDepth: {len(problems)} of {len(datasets)} data sets '
                'are left out:\n' + '\n'.join(problems),
                'current',
                level=logging.WARNING,
            )
        self.weights = weights and [weights[index] for index, _ in kept]
        self.epoch_length = epoch_length
        self._ends: List[int] = []
        super().__init__([built for _, built in kept], lazy_init=lazy_init)

    def full_init(self) -> None:
        """Read the lists of the data sets, once."""
        if self._fully_initialized:
            return
        super().full_init()
        lengths = [len(dataset) for dataset in self.datasets]
        self._ends = slots(lengths, self.weights, self.epoch_length)
        shares = ', '.join(
            f'{name_of(dataset)} {end - start} ({length} samples)'
            for dataset, start, end, length in zip(
                self.datasets, [0, *self._ends], self._ends, lengths
            )
        )
        print_log(f'MixedDepth: samples of an epoch: {shares}', 'current')

    def __len__(self) -> int:
        self.full_init()
        return self._ends[-1]

    def _get_ori_dataset_idx(self, idx: int) -> Tuple[int, int]:
        """Data set and index in it, which keeps the seed of ``idx``."""
        self.full_init()
        count = len(self)
        if not -count <= idx < count:
            raise IndexError(f'index {int(idx)} of a mixture of {count}')
        if idx < 0:
            idx = idx + count
        which = bisect.bisect_right(self._ends, idx)
        inner = idx - (self._ends[which - 1] if which else 0)
        length = len(self.datasets[which])
        if self.epoch_length is None:
            return which, inner % length
        seed = getattr(idx, 'seed', None)
        if seed is None:
            raise UserValueError(
                'MixedDepth: epoch_length draws samples by the seed of their '
                "index; use sampler=dict(type='mmdense.SeededSampler', "
                'shuffle=True), or leave epoch_length out'
            )
        drawn = mix_seed(seed, which) % length
        return which, inner - int(inner) + drawn


def slots(
    lengths: Sequence[int],
    weights: Optional[Sequence[float]] = None,
    total: Optional[int] = None,
) -> List[int]:
    """Where the part of each data set ends in an epoch.

    Args:
        lengths (Sequence[int]): Samples of each data set.
        weights (Sequence[float], optional): Their shares. None for
            ``lengths``. Defaults to None.
        total (int, optional): Samples of an epoch. None for the smallest
            number at which every data set is gone through at least once.
            Defaults to None.

    Returns:
        List[int]: End of each part, increasing.
    """
    weights = list(weights or lengths)
    if total is None:
        scale = max(n / w for n, w in zip(lengths, weights))
        parts = [round(w * scale) for w in weights]
        ends, end = [], 0
        for part in parts:
            end += part
            ends.append(end)
        return ends
    share = total / sum(weights)
    return [
        round(sum(weights[: index + 1]) * share)
        for index in range(len(weights))
    ]


def name_of(dataset: Any) -> str:
    """Name of a data set, or of a config, in messages.

    Args:
        dataset (Any): The data set or its config.

    Returns:
        str: ``dataset_name``, or the root and type.
    """
    if not isinstance(dataset, dict):
        name = getattr(dataset, 'dataset_name', None)
        return str(name or type(dataset).__name__)
    name = dataset.get('dataset_name')
    parts = [name, dataset.get('type'), dataset.get('data_root')]
    return ' '.join(str(part) for part in parts if part)


def _build(
    datasets: Sequence[Any], missing: str
) -> Tuple[List[Tuple[int, Any]], List[str]]:
    """Positions and data sets that are there, and what the others lack."""
    kept: List[Tuple[int, Any]] = []
    problems: List[str] = []
    for index, config in enumerate(datasets):
        try:
            built = (
                DATASETS.build(config) if isinstance(config, dict) else config
            )
        except FileNotFoundError as error:
            problem = f'{name_of(config)}: {error}'
            if missing == 'raise':
                raise MissingDepthError(
                    f'MixedDepth: data set {index} ({problem}); '
                    "missing='skip' leaves it out"
                ) from error
            problems.append(problem)
        else:
            kept.append((index, built))
    return kept, problems
