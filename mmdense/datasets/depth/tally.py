"""Counts of bad samples that all workers of a process share."""

from typing import List, Tuple

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

# one row for each worker, so that nobody needs a lock
_ROWS = 257


class SampleTally:
    """Reads, failures and repaired maps, in shared memory.

    Args:
        size (int): Number of samples of the data set.
    """

    def __init__(self, size: int) -> None:
        self.counts = torch.zeros(_ROWS, 3, dtype=torch.int64)
        self.bad = torch.zeros(size, dtype=torch.uint8)
        self.counts.share_memory_()
        self.bad.share_memory_()

    @staticmethod
    def _row() -> int:
        worker = get_worker_info()
        return 0 if worker is None else 1 + worker.id % (_ROWS - 1)

    def read(self, failed: bool) -> None:
        """Count one read.

        Args:
            failed (bool): Whether the sample could not be used.
        """
        row = self.counts[self._row()]
        row[0] += 1
        row[1] += int(failed)

    def mark_bad(self, index: int) -> bool:
        """Remember a bad sample.

        Args:
            index (int): Its index.

        Returns:
            bool: Whether nobody has met it before.
        """
        first = not bool(self.bad[index])
        self.bad[index] = 1
        return first

    def repaired(self) -> bool:
        """Count a map of which pixels were set to invalid.

        Returns:
            bool: Whether it is the first one.
        """
        first = not bool(self.counts[:, 2].any())
        self.counts[self._row(), 2] += 1
        return first

    def totals(self) -> Tuple[int, int, int]:
        """Reads, failures and repaired maps of this process so far."""
        reads, failures, repaired = self.counts.sum(dim=0).tolist()
        return reads, failures, repaired

    def bad_indices(self) -> List[int]:
        """Indices of the samples that failed, in order."""
        return torch.nonzero(self.bad).flatten().tolist()

    def snapshot(self) -> Tuple[Tensor, Tensor]:
        """Copies of the counts and marks; workers go on with the others."""
        return self.counts.clone(), self.bad.clone()
