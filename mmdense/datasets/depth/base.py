"""What all depth data sets have in common."""

import logging
from contextlib import nullcontext
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.logging import print_log
from torch import Tensor

from ...utils.errors import UserValueError
from ...utils.rng import mix_seed, sample_rng
from ..image_io import BadImageError
from ..samplers import SeededIndex
from .errors import (
    NAMED,
    BadSampleError,
    DepthFileError,
    DepthSampleError,
    named,
    raise_if_broken,
    with_path,
)
from .stand_in import stand_in
from .tally import SampleTally
from .units import unit_problem

# judge the share of bad samples only after so many reads
_MIN_READS = 20


class DepthDataset(BaseDataset):
    """Base of data sets that give an image and its depth.

    A sample that cannot be used (a file is missing, truncated, of another
    size, without a valid pixel, ...) is reported once with its file and
    counted, and another one is drawn; ``strict=True`` stops there instead.
    With :class:`mmdense.SeededSampler` samples and replacements are functions
    of the seed. In test mode nothing is drawn: an image without truth takes
    the place of the bad one, so that metrics count it as skipped and name it.
    ``tools/test.py`` sets ``strict``.

    When the list is read, a few depth maps are looked at: a median outside
    of ``plausible_range`` is a hint at a wrong unit and gives a warning.

    Subclasses implement :meth:`load_data_list` and may set :attr:`NAME`,
    :attr:`PLAUSIBLE_RANGE` and :attr:`EXPECTED`.

    Args:
        dataset_name (str, optional): ``dataset_name`` of every data info,
            by which metrics tell data sets apart. None for :attr:`NAME`.
            Defaults to None.
        strict (bool): Raise for a bad sample. Defaults to False.
        plausible_range (Sequence[float] or str, optional): Smallest and
            largest plausible median of a depth map in metres; 'auto' for
            that of the class; None for no check (unknown scale). Defaults
            to 'auto'.
        max_bad_share (float): Stop when more than this share of the reads
            of a process fails. Defaults to 0.5.
        max_refetch (int): Replacements for one sample. Defaults to 100.
        backend_args (dict, optional): File backend of mmengine for lists
            and folders. Defaults to None.
        data_prefix (dict, optional): Folders, relative to ``data_root``.
            Defaults to None.
        **kwargs (Any): ``data_root``, ``ann_file``, ``pipeline``,
            ``test_mode``, ``indices``, ``metainfo``, ``lazy_init``,
            ``serialize_data``; see mmengine's ``BaseDataset``.

    Raises:
        UserValueError: If ``max_bad_share`` or ``plausible_range`` is none.
    """

    METAINFO: dict = dict(classes=(), palette=[])
    #: ``dataset_name`` where none is given
    NAME = 'depth'
    #: plausible medians in metres; None if the scale is unknown
    PLAUSIBLE_RANGE: Optional[Tuple[float, float]] = None
    #: published number of samples of a split
    EXPECTED: Dict[str, int] = {}
    #: what :func:`mmdense.apis.config_data.be_strict` looks for
    strict_in_tests = True

    def __init__(
        self,
        dataset_name: Optional[str] = None,
        strict: bool = False,
        plausible_range: Union[str, Sequence[float], None] = 'auto',
        max_bad_share: float = 0.5,
        max_refetch: int = 100,
        backend_args: Optional[dict] = None,
        data_prefix: Optional[dict] = None,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        if not 0 <= max_bad_share <= 1:
            raise UserValueError(
                f'{name}: max_bad_share={max_bad_share}, use 0 to 1'
            )
        if plausible_range == 'auto':
            plausible_range = self.PLAUSIBLE_RANGE
        if plausible_range is not None and (
            isinstance(plausible_range, str)
            or len(plausible_range) != 2
            or not 0 < plausible_range[0] < plausible_range[1]
        ):
            raise UserValueError(
                f'{name}: plausible_range={plausible_range!r}, use '
                "(low, high) in metres, 'auto' or None"
            )
        self.dataset_name = dataset_name or self.NAME
        self.strict = strict
        self.plausible_range = plausible_range
        self.max_bad_share = max_bad_share
        self.backend_args = dict(backend_args) if backend_args else None
        self._reported = 0
        super().__init__(
            data_prefix=dict(data_prefix or {}),
            max_refetch=max_refetch,
            **kwargs,
        )

    # ---- list ----

    def full_init(self) -> None:
        """Read the list and look at the units, once."""
        if self._fully_initialized:
            return
        super().full_init()
        self._reset_tally()
        if self.plausible_range is not None:
            problem = unit_problem(self, self.plausible_range)
            if problem:
                self._warn(problem)

    def get_subset_(self, indices: Union[Sequence[int], int]) -> None:
        """Keep a part of the samples, as in ``BaseDataset``."""
        super().get_subset_(indices)
        self._reset_tally()

    def get_subset(self, indices: Union[Sequence[int], int]) -> 'DepthDataset':
        """A copy with a part of the samples, as in ``BaseDataset``."""
        subset = super().get_subset(indices)
        subset._reset_tally()
        return subset

    def _reset_tally(self) -> None:
        self._tally = SampleTally(len(self))
        self._reported = 0

    def get_data_info(self, idx: int) -> Dict[str, Any]:
        """Files of a sample and what is known about it.

        Args:
            idx (int): Index, negative from the end.

        Returns:
            dict: What :meth:`load_data_list` gives, ``dataset_name``,
            ``seg_fields`` (empty), ``sample_idx`` and ``test_mode``.
        """
        info = super().get_data_info(int(idx))
        info.setdefault('seg_fields', [])
        info['dataset_name'] = self.dataset_name
        info['test_mode'] = self.test_mode
        return info

    def _warn_count(self, found: int, split: str, where: str) -> None:
        """Warn if a split has not its published number of samples."""
        expected = self.EXPECTED.get(split)
        if expected is not None and found != expected:
            self._warn(
                f'{where} has {found} files for split {split!r} instead of '
                f'{expected} ({found - expected:+d}); results cannot be '
                'compared with published ones'
            )

    def _usable(
        self, data: List[Dict[str, Any]], lacking: Dict[int, str], what: str
    ) -> List[Dict[str, Any]]:
        """Entries to keep where files are missing.

        Args:
            data (List[dict]): All entries.
            lacking (Dict[int, str]): Position of an entry and its missing
                file.
            what (str): What is missing, and where to look.

        Returns:
            List[dict]: The others, with a warning. In test mode all, since
            metrics count them.

        Raises:
            DepthFileError: With ``strict``, or if no entry is complete.
        """
        if not lacking:
            return data
        text = (
            f'{len(lacking)} of {len(data)} images have {what}. Missing: '
            f'{named(lacking.values())}'
        )
        if self.strict or len(lacking) == len(data):
            raise DepthFileError(text)
        if self.test_mode:
            self._warn(f'{text}. These images are not scored')
            return data
        self._warn(f'{text}. These images are left out')
        return [
            item for index, item in enumerate(data) if index not in lacking
        ]

    # ---- samples ----

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on one sample.

        Args:
            idx (int): Index; a :class:`~..samplers.SeededIndex` makes the
                sample a function of its seed.

        Returns:
            Any: Output of the pipeline.

        Raises:
            BadSampleError: If the sample cannot be used.
        """
        self.full_init()
        info = self.get_data_info(idx)
        seed = getattr(idx, 'seed', None)
        path = str(info.get('img_path'))
        try:
            with nullcontext() if seed is None else sample_rng(seed):
                sample = self.pipeline(info)
        except BadSampleError:
            raise
        except (BadImageError, OSError) as error:
            raise DepthFileError(with_path(path, error)) from error
        except Exception:
            # foreign loaders raise what they like at a broken image
            raise_if_broken(path)
            raise
        if sample is None:
            raise DepthSampleError(
                f'{path}: a transform of the pipeline returned None'
            )
        self._note_repair(info)
        return sample

    def __getitem__(self, idx: int) -> Any:
        """Sample from the pipeline, or another one for a bad one.

        Args:
            idx (int): Index, with or without a seed.

        Returns:
            Any: What the pipeline returns.

        Raises:
            BadSampleError: If the sample cannot be used and ``strict`` is
                set, or too many samples cannot be used.
        """
        self.full_init()
        if self.strict:
            return self.prepare_data(idx)
        if self.test_mode:
            return self._tested(idx)
        index: Any = idx
        error: Optional[BadSampleError] = None
        for attempt in range(self.max_refetch + 1):
            try:
                sample = self.prepare_data(index)
            except BadSampleError as found:
                error = found
                self._tally.read(failed=True)
                self._note_bad(int(index), error)
                index = self._replacement(idx, attempt)
            else:
                self._tally.read(failed=False)
                return sample
        raise DepthFileError(
            f'{type(self).__name__}: no usable sample in '
            f'{self.max_refetch + 1} attempts, the last: {error}'
        )

    def _tested(self, idx: int) -> Any:
        """The sample, or one without truth in its place."""
        try:
            sample = self.prepare_data(idx)
        except BadSampleError as found:
            error = found
        else:
            self._tally.read(failed=False)
            return sample
        self._tally.read(failed=True)
        if self._tally.mark_bad(int(idx) % len(self)):
            self._warn(f'sample not scored: {error}')
        for step in range(1, min(len(self), self.max_refetch + 1)):
            other = (int(idx) + step) % len(self)
            try:
                sample = self.prepare_data(idx - int(idx) + other)
            except BadSampleError:
                continue
            return stand_in(sample, self.get_data_info(idx), error)
        raise error

    def _replacement(self, idx: int, attempt: int) -> int:
        seed = getattr(idx, 'seed', None)
        if seed is None:
            return int(np.random.randint(len(self)))
        draw = mix_seed(seed, int(idx), attempt)
        # keeps a seed of its own
        return idx - int(idx) + draw % len(self)

    def _note_bad(self, index: int, error: BadSampleError) -> None:
        if self._tally.mark_bad(index % len(self)):
            self._warn(f'sample left out: {error}')
        reads, failures, _ = self._tally.totals()
        if reads >= _MIN_READS and failures > self.max_bad_share * reads:
            raise DepthFileError(
                f'{type(self).__name__}: {failures} of {reads} samples could '
                f'not be used, more than max_bad_share={self.max_bad_share}; '
                f'the last: {error}. Check data_root and the pipeline, or '
                'raise max_bad_share'
            ) from error

    def _note_repair(self, info: Dict[str, Any]) -> None:
        pixels = info.get('depth_repaired', 0)
        if pixels and self._tally.repaired():
            path = info.get('depth_map_path') or info.get('img_path')
            self._warn(
                f'{path}: {pixels} pixels are NaN, infinite or negative and '
                'count as invalid (said once, for the first such map)'
            )

    # ---- report ----

    @property
    def skipped(self) -> int:
        """int: Reads that were replaced so far, with all workers."""
        self.full_init()
        return self._tally.totals()[1]

    @property
    def bad_files(self) -> List[str]:
        """List[str]: Images of the samples that could not be used."""
        self.full_init()
        return self._paths(self._tally.bad)

    def _paths(self, bad: Tensor) -> List[str]:
        return [
            str(self.get_data_info(int(index))['img_path'])
            for index in np.flatnonzero(bad.numpy())
        ]

    def log_report(self) -> None:
        """Log how many samples were left out, if it has become more.

        Puts the counts of all processes together; call it on each.
        """
        self.full_init()
        counts, bad = self._tally.snapshot()
        if get_world_size() > 1:
            all_reduce(counts, 'sum')
            all_reduce(bad, 'max')
        number = int((bad != 0).sum())
        if number <= self._reported:
            return
        self._reported = number
        if not is_main_process():
            return
        reads, failures, repaired = counts.sum(dim=0).tolist()
        left = [
            self._reason(index) if rank < NAMED else ''
            for rank, index in enumerate(np.flatnonzero(bad.numpy()).tolist())
        ]
        done = 'not scored' if self.test_mode else 'replaced by another sample'
        self._warn(
            f'{number} of {len(self)} samples could not be used; {failures} '
            f'of {reads} reads were {done}, {repaired} maps had NaN, infinite '
            'or negative depth. Left out:\n  ' + named(left, '\n  ')
        )

    def _reason(self, index: int) -> str:
        """Why a sample was left out; what other processes log is lost."""
        try:
            # leaves the random state of the process alone
            self.prepare_data(SeededIndex(index, index))
        except BadSampleError as error:
            return str(error)
        path = self.get_data_info(index)['img_path']
        return f'{path}: can be used now; a random transform could not use it'

    def _warn(self, text: str) -> None:
        print_log(
            f'{type(self).__name__} ({self.dataset_name}): {text}',
            'current',
            level=logging.WARNING,
        )
