"""NYU Depth V2 as HDF5 files (Sparse-to-Dense, FastDepth)."""

import os
import os.path as osp
from typing import Any, Dict, List, Optional

import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from mmdense.registry import DATASETS

from .loading import DepthFileError, MissingDepthError, import_h5py

_HOLDOUT_MARKS = ('00001', '00201')


def in_holdout(name: str) -> bool:
    """Whether FastDepth holds a training file back.

    Args:
        name (str): File name without folder.

    Returns:
        bool: True if the name contains 00001 or 00201.
    """
    return any(mark in name for mark in _HOLDOUT_MARKS)


@DATASETS.register_module()
class NYUDepthH5(BaseDataset):
    """The pre-processed NYU Depth V2 of Sparse-to-Dense and FastDepth.

    .. code-block:: none

        data_root/train/<scene>/<index>.h5         47,584 files
        data_root/val/official/<index>.h5          654 files

    Every file holds ``rgb`` (3x480x640, uint8) and ``depth`` (480x640, float,
    metres); read them with ``mmdense.LoadDepthH5``.

    ========================= ======================================
    split                     files
    ========================= ======================================
    'train'                   all of ``train`` (47,584)
    'train_fastdepth'         those not held out
    'holdout'                 those named *00001* or *00201*
    'official'                ``val/official`` (654)
    ========================= ======================================

    Sources: [0] Ma and Karaman, Sparse-to-Dense, 2018. [1] Wofk et al.,
    FastDepth, 2019.

    Args:
        split (str): See above. Defaults to 'train'.
        data_root (str): Folder with ``train`` and ``val``. Defaults to
            'data/nyudepthv2'.
        on_error (str): What a missing or broken file does: 'raise' stops
            with the name of the file; 'skip' takes another image instead and
            counts (:attr:`skipped`; training only). Defaults to 'raise'.
        test_mode (bool): Whether the order is kept and nothing is skipped.
            Defaults to False.
        **kwargs (Any): ``pipeline``, ``indices``, ``lazy_init``,
            ``serialize_data``; see mmengine's ``BaseDataset``.

    Raises:
        ValueError: If ``split`` or ``on_error`` is unknown.
    """

    METAINFO: Dict[str, Any] = dict(dataset_type='nyu_depth_h5', classes=())
    FOLDERS = {
        'train': 'train',
        'train_fastdepth': 'train',
        'holdout': 'train',
        'official': osp.join('val', 'official'),
    }
    EXPECTED: Dict[str, int] = {'train': 47584, 'official': 654}

    def __init__(
        self,
        split: str = 'train',
        data_root: str = 'data/nyudepthv2',
        on_error: str = 'raise',
        test_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        if split not in self.FOLDERS:
            raise ValueError(
                f'NYUDepthH5: split={split!r}, choose from '
                f'{tuple(self.FOLDERS)}'
            )
        if on_error not in ('raise', 'skip'):
            raise ValueError(
                f"NYUDepthH5: on_error={on_error!r}, choose 'raise' or 'skip'"
            )
        if on_error == 'skip' and test_mode:
            raise ValueError(
                "NYUDepthH5: on_error='skip' would leave images out of a "
                "test result; use 'raise' with test_mode=True"
            )
        import_h5py()
        self.split = split
        self.on_error = on_error
        # shared with the workers, one place each
        self._skipped = torch.zeros(257, dtype=torch.int64).share_memory_()
        self._reported = 0
        super().__init__(data_root=data_root, test_mode=test_mode, **kwargs)

    def load_data_list(self) -> List[Dict[str, Any]]:
        """List the files of the split.

        Returns:
            List[dict]: ``img_path``, ``scene`` and ``seg_fields`` per file,
            ordered by path.

        Raises:
            MissingDepthError: If there is no file.
        """
        folder = osp.join(self.data_root, self.FOLDERS[self.split])
        paths = sorted(
            osp.join(parent, name)
            for parent, _, names in os.walk(folder, followlinks=True)
            for name in names
            if name.endswith('.h5') and self._wanted(name)
        )
        if not paths:
            raise MissingDepthError(
                f'{folder}: no .h5 files for split {self.split!r}; data_root '
                'has to contain train/<scene>/<index>.h5 and '
                'val/official/<index>.h5'
            )
        expected = self.EXPECTED.get(self.split)
        if expected is not None and len(paths) != expected:
            print_log(
                f'NYUDepthH5: {folder} has {len(paths)} files for split '
                f'{self.split!r} instead of {expected} '
                f'({len(paths) - expected:+d}); results cannot be compared '
                'with published ones',
                'current',
                level=30,
            )
        return [
            dict(
                img_path=path,
                scene=osp.basename(osp.dirname(path)),
                seg_fields=[],
            )
            for path in paths
        ]

    @property
    def skipped(self) -> int:
        """int: Files skipped so far, by this process and its workers."""
        return int(self._skipped.sum())

    def log_report(self) -> None:
        """Log how many files were skipped, if it has become more."""
        if self.skipped > self._reported:
            self._reported = self.skipped
            print_log(
                f'NYUDepthH5: {self.skipped} reads of broken files skipped '
                'so far; the lines above name them.',
                'current',
                level=30,
            )

    def _wanted(self, name: str) -> bool:
        if self.split == 'train_fastdepth':
            return not in_holdout(name)
        return self.split != 'holdout' or in_holdout(name)

    def prepare_data(self, idx: int) -> Optional[Any]:
        """Run the pipeline on one file.

        Args:
            idx (int): Index.

        Returns:
            Any: Output of the pipeline; None (then another index is drawn)
            for a broken file with ``on_error='skip'``.
        """
        try:
            return super().prepare_data(idx)
        except DepthFileError as error:
            if self.on_error == 'raise':
                raise
            worker = get_worker_info()
            self._skipped[0 if worker is None else 1 + worker.id] += 1
            print_log(
                f'NYUDepthH5: skipped ({self.skipped} so far): {error}',
                'current',
                level=30,
            )
            return None
