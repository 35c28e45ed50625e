"""Images without labels, from folders, patterns and lists."""

import hashlib
import json
import logging
import os
import os.path as osp
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import all_reduce, get_world_size
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from mmdense.registry import DATASETS

from ..utils.rng import mix_seed, sample_rng
from .image_index import (
    IMAGE_EXTENSIONS,
    expand_sources,
    find_images,
    load_index,
    save_index,
)
from .image_io import REASONS, BadImageError, open_image

_CACHE_VERSION = 1
# judge the share of bad files only after so many attempts
_MIN_ATTEMPTS = 20
# one row of counters for each worker, so that nobody needs a lock
_MAX_WORKERS = 256


@dataclass
class ImageReport:
    """What happened to the files of a data set in this process so far.

    Attributes:
        files (int): Files in the data set.
        attempts (int): Files opened, repetitions included.
        failures (int): Attempts that failed.
        bad_files (List[Tuple[str, str]]): Path and reason, once per file.
    """

    files: int = 0
    attempts: int = 0
    failures: int = 0
    bad_files: List[Tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        reasons = Counter(reason for _, reason in self.bad_files)
        parts = ', '.join(f'{n} {why}' for why, n in sorted(reasons.items()))
        return (
            f'{len(self.bad_files)} of {self.files} image files could not be '
            f'used ({parts or "none"}); {self.failures} of {self.attempts} '
            'reads were replaced by another image.'
        )


@DATASETS.register_module()
class UnlabeledImages(BaseDataset):
    """Images of any origin, without labels.

    A file that cannot be used (empty, truncated, no image, too large) is
    reported once with its path and reason and counted; the sample is made
    from another file, chosen as a function of the seed of the sample. With
    :class:`mmdense.SeededSampler`, everything a pipeline draws is a function
    of that seed too.

    The index is one byte buffer, not a list of dicts: a million files take
    some 50 MB, shared by forked workers.

    Args:
        paths (str or List[str]): Folders (ImageNet's layout too; nothing is
            made of folder names), glob patterns (``**`` matches any depth),
            list files (``.txt``, ``.lst``, ``.list``; one path a line, lines
            starting with ``#`` and a trailing integer label are ignored) or
            image files, in any mixture. A file that occurs several times is
            taken once.
        data_root (str): Put before relative ``paths`` and before relative
            lines of list files, which otherwise start at the folder of the
            list. Defaults to ''.
        recursive (bool): Look into folders of folders. Defaults to True.
        extensions (Sequence[str]): What counts as an image in folders and
            patterns, in any case. Defaults to
            :data:`~.image_index.IMAGE_EXTENSIONS`.
        cache_file (str, optional): Where to keep the index (npz). It is
            made anew when a folder or list in it has changed, or arguments
            have; where it cannot be written, it is left out. Patterns are
            expanded on every start. Defaults to None, no cache.
        pipeline (List[dict]): Transforms. Defaults to ().
        max_bad_share (float): Stop when more than this share of the reads
            of a process fails. Defaults to 0.5.
        max_refetch (int): Replacements for one sample. Defaults to 100.
        test_mode (bool): Raise for a bad file instead of replacing it.
            Defaults to False.
        indices (int or Sequence[int], optional): Use a part, as in
            ``BaseDataset``. Defaults to None.
        metainfo (dict, optional): Meta information. Defaults to None.
        lazy_init (bool): Look for files at first use. Defaults to False.

    Raises:
        FileNotFoundError: If one of the paths does not exist or there is no
            image; names the path and the extensions that were seen.
    """

    METAINFO: dict = dict(task_name='unlabeled_images')
    _fully_initialized: bool = False

    def __init__(
        self,
        paths: Union[str, Sequence[str]],
        data_root: str = '',
        recursive: bool = True,
        extensions: Sequence[str] = IMAGE_EXTENSIONS,
        cache_file: Optional[str] = None,
        pipeline: Sequence[Any] = (),
        max_bad_share: float = 0.5,
        max_refetch: int = 100,
        test_mode: bool = False,
        indices: Union[int, Sequence[int], None] = None,
        metainfo: Optional[dict] = None,
        lazy_init: bool = False,
    ) -> None:
        if not 0 <= max_bad_share <= 1:
            raise ValueError(f'max_bad_share={max_bad_share}: use 0 to 1.')
        if isinstance(extensions, str):
            extensions = (extensions,)
        self.paths = [paths] if isinstance(paths, str) else list(paths)
        self.recursive = recursive
        self.extensions = tuple(
            sorted('.' + e.lower().lstrip('.') for e in extensions)
        )
        self.cache_file = cache_file
        self.max_bad_share = max_bad_share
        super().__init__(
            metainfo=metainfo,
            data_root=data_root,
            data_prefix=dict(),
            indices=indices,
            serialize_data=True,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
        )

    # ---- index ----

    def full_init(self) -> None:
        """Find the files, once."""
        if self._fully_initialized:
            return
        sources = expand_sources(self.paths, self.data_root or '')
        files = None
        key = ''
        if self.cache_file is not None:
            settings = [self.recursive, self.extensions, self.data_root]
            key = json.dumps([_CACHE_VERSION, sources, settings])
            key = hashlib.sha256(key.encode()).hexdigest()
            files = load_index(self.cache_file, key)
        if files is None:
            started = time.time_ns()
            files, visited = find_images(
                sources, self.extensions, self.recursive, self.data_root or ''
            )
            if self.cache_file is not None:
                save_index(self.cache_file, key, files, visited, started)
        self._set_files(files)
        self._fully_initialized = True
        if self._indices is not None:
            self.get_subset_(self._indices)

    def _set_files(self, files: List[str]) -> None:
        self._prefix = _common_folder(files)
        start = len(self._prefix)
        encoded = [os.fsencode(name[start:]) for name in files]
        lengths = np.array([len(name) for name in encoded], dtype=np.int64)
        self.data_bytes = np.frombuffer(b''.join(encoded), dtype=np.uint8)
        self.data_address = np.cumsum(lengths)
        self._reset_counters()

    def _reset_counters(self) -> None:
        # in shared memory: workers count, the main process reports
        self._counts = torch.zeros(_MAX_WORKERS, 2, dtype=torch.int64)
        self._status = torch.zeros(len(self.data_address), dtype=torch.uint8)
        self._counts.share_memory_()
        self._status.share_memory_()
        self._reported = 0

    def _path(self, index: int) -> str:
        n = len(self.data_address)
        if not -n <= index < n:
            raise IndexError(f'index {index} of a data set of {n} files')
        index %= n
        start = 0 if index == 0 else int(self.data_address[index - 1])
        stop = int(self.data_address[index])
        return self._prefix + os.fsdecode(
            self.data_bytes[start:stop].tobytes()
        )

    def get_data_info(self, idx: int) -> Dict[str, Any]:
        """Path and index of a file.

        Args:
            idx (int): Index, negative from the end.

        Returns:
            dict: ``img_path`` and ``sample_idx``.
        """
        self.full_init()
        index = int(idx)
        path = self._path(index)
        return dict(img_path=path, sample_idx=index % len(self.data_address))

    def get_subset_(self, indices: Union[Sequence[int], int]) -> None:
        """Keep a part of the files, as in ``BaseDataset``."""
        super().get_subset_(indices)
        self._reset_counters()

    def get_subset(
        self, indices: Union[Sequence[int], int]
    ) -> 'UnlabeledImages':
        """A copy with a part of the files, as in ``BaseDataset``."""
        subset = super().get_subset(indices)
        subset._reset_counters()
        return subset

    # ---- samples ----

    def __getitem__(self, idx: int) -> Any:
        """Sample from the pipeline.

        Args:
            idx (int): Index; a :class:`~.samplers.SeededIndex` makes the
                sample a function of its seed.

        Returns:
            Any: What the pipeline returns.

        Raises:
            BadImageError: In test mode, if the file cannot be used.
            RuntimeError: If too many files cannot be used.
        """
        self.full_init()
        seed = getattr(idx, 'seed', None)
        index = int(idx)
        if self.test_mode:
            return self._prepare(index, seed)
        for attempt in range(self.max_refetch + 1):
            own = None if seed is None else mix_seed(seed, attempt)
            try:
                sample = self._prepare(index, own)
            except (BadImageError, OSError) as error:
                self._count(True)
                self._note_bad(index, error)
                choice = mix_seed(seed or 0, int(idx), attempt)
                index = choice % len(self.data_address)
            else:
                self._count(False)
                return sample
        raise RuntimeError(
            f'No usable image in {self.max_refetch + 1} attempts. '
            f'{self.report()}'
        )

    def _prepare(self, index: int, seed: Optional[int]) -> Any:
        try:
            if seed is None:
                sample = self.prepare_data(index)
            else:
                with sample_rng(seed):
                    sample = self.prepare_data(index)
        except (BadImageError, OSError):
            raise
        except Exception:
            # other loaders raise what they like at a broken file
            open_image(self._path(index)).decode()
            raise
        if sample is None:
            raise BadImageError(
                self._path(index),
                'rejected by the pipeline',
                'a transform returned None',
            )
        return sample

    def _count(self, failed: bool) -> None:
        worker = get_worker_info()
        row = 0 if worker is None else 1 + worker.id % (_MAX_WORKERS - 1)
        self._counts[row, 0] += 1
        if failed:
            self._counts[row, 1] += 1

    def _note_bad(self, index: int, error: Exception) -> None:
        index %= len(self.data_address)
        if not isinstance(error, BadImageError):
            error = BadImageError(self._path(index), 'unreadable', str(error))
        if not self._status[index]:
            self._status[index] = REASONS.index(error.reason)
            print_log(
                f'Image left out: {error}', 'current', level=logging.WARNING
            )
        attempts, failures = self._counts.sum(dim=0).tolist()
        if attempts < _MIN_ATTEMPTS:
            return
        if failures > self.max_bad_share * attempts:
            raise RuntimeError(
                f'More than max_bad_share={self.max_bad_share} of the images '
                f'cannot be used, the last one {error}. {self.report()} '
                'Check the files, or raise max_bad_share of the data set.'
            ) from error

    # ---- report ----

    def report(self) -> ImageReport:
        """What was read so far in this process and its workers.

        Returns:
            ImageReport: Counts, and the files that could not be used.
        """
        self.full_init()
        return self._report_of(self._status, self._counts)

    def _report_of(
        self, status: torch.Tensor, counts: torch.Tensor
    ) -> ImageReport:
        attempts, failures = counts.sum(dim=0).tolist()
        bad = np.flatnonzero(status.numpy())
        return ImageReport(
            len(self),
            attempts,
            failures,
            [(self._path(i), REASONS[int(status[i])]) for i in bad],
        )

    def log_report(self) -> None:
        """Log the report if there are bad files it has not told of.

        Puts the counts of all processes together; call it on each.
        """
        if get_world_size() > 1:
            # the workers go on writing into the shared tensors
            status, counts = self._status.clone(), self._counts.clone()
            all_reduce(status, 'max')
            all_reduce(counts, 'sum')
            self._log_of(status, counts)
        else:
            self._log_of(self._status, self._counts)

    def _log_of(self, status: torch.Tensor, counts: torch.Tensor) -> None:
        known = int((status != 0).sum())
        if known > self._reported:
            self._reported = known
            text = str(self._report_of(status, counts))
            print_log(text, 'current', level=logging.WARNING)


def _common_folder(files: List[str]) -> str:
    """Start that all paths share, up to a separator."""
    first, last = min(files), max(files)
    common = osp.commonprefix([first, last])
    return common[: common.rfind(os.sep) + 1]
