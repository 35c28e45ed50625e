"""NYU Depth V2 as HDF5 files (Sparse-to-Dense, FastDepth)."""

import os
import os.path as osp
from typing import Any, Dict, List

from mmdense.registry import DATASETS
from mmdense.utils.errors import UserValueError

from .base import DepthDataset
from .errors import MissingDepthError
from .loading_h5 import import_h5py
from .nyu import scene_label

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
class NYUDepthH5(DepthDataset):
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
        **kwargs (Any): See :class:`DepthDataset`.

    Raises:
        UserValueError: If ``split`` is unknown.
        ImportError: If h5py is not installed.
    """

    NAME = 'nyu'
    PLAUSIBLE_RANGE = (0.6, 15.0)
    FOLDERS = {
        'train': 'train',
        'train_fastdepth': 'train',
        'holdout': 'train',
        'official': osp.join('val', 'official'),
    }
    EXPECTED = {'train': 47584, 'official': 654}

    def __init__(
        self,
        split: str = 'train',
        data_root: str = 'data/nyudepthv2',
        **kwargs: Any,
    ) -> None:
        if split not in self.FOLDERS:
            raise UserValueError(
                f'NYUDepthH5: split={split!r}, choose from '
                f'{tuple(self.FOLDERS)}'
            )
        import_h5py()
        self.split = split
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> List[Dict[str, Any]]:
        """List the files of the split.

        Returns:
            List[dict]: ``img_path``, ``scene`` and ``scene_label`` per file,
            ordered by path.

        Raises:
            MissingDepthError: If there is no file.
        """
        folder = osp.join(str(self.data_root or ''), self.FOLDERS[self.split])
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
        self._warn_count(len(paths), self.split, folder)
        scenes = [osp.basename(osp.dirname(path)) for path in paths]
        return [
            dict(img_path=path, scene=scene, scene_label=scene_label(scene))
            for path, scene in zip(paths, scenes)
        ]

    def _wanted(self, name: str) -> bool:
        if self.split == 'train_fastdepth':
            return not in_holdout(name)
        return self.split != 'holdout' or in_holdout(name)
