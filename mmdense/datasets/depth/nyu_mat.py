"""The labelled part of NYU Depth V2, as its authors distribute it."""

import os.path as osp
from typing import Any, Dict, List

from mmdense.registry import DATASETS
from mmdense.utils.errors import UserValueError

from .base import DepthDataset
from .errors import DepthFileError, MissingDepthError
from .loading_h5 import import_h5py
from .nyu import scene_label


@DATASETS.register_module()
class NYUDepthMat(DepthDataset):
    """The 1,449 labelled images of NYU Depth V2 in their official split.

    .. code-block:: none

        data_root/nyu_depth_v2_labeled.mat    images, depths, sceneTypes
        data_root/splits.mat                  trainNdxs (795), testNdxs (654)

    Read samples with ``mmdense.LoadDepthMat``, which gives the full 480x640
    images and depth in metres. The test part holds the 654 images of all NYU
    protocols.

    Source: Silberman et al., Indoor Segmentation and Support Inference from
    RGBD Images, 2012.

    Args:
        split (str): 'train' or 'test'. Defaults to 'train'.
        data_root (str): Folder with both files. Defaults to 'data/nyu'.
        mat_file (str): Defaults to 'nyu_depth_v2_labeled.mat'.
        ann_file (str): File of the split. Defaults to 'splits.mat'.
        **kwargs (Any): See :class:`DepthDataset`.

    Raises:
        UserValueError: If ``split`` is unknown.
        ImportError: If h5py or scipy is not installed.
    """

    NAME = 'nyu'
    PLAUSIBLE_RANGE = (0.6, 15.0)
    EXPECTED = {'train': 795, 'test': 654}
    KEYS = {'train': 'trainNdxs', 'test': 'testNdxs'}

    def __init__(
        self,
        split: str = 'train',
        data_root: str = 'data/nyu',
        mat_file: str = 'nyu_depth_v2_labeled.mat',
        ann_file: str = 'splits.mat',
        **kwargs: Any,
    ) -> None:
        if split not in self.KEYS:
            raise UserValueError(
                f'NYUDepthMat: split={split!r}, choose from {tuple(self.KEYS)}'
            )
        import_h5py()
        self.split = split
        self.mat_file = mat_file
        super().__init__(data_root=data_root, ann_file=ann_file, **kwargs)

    def load_data_list(self) -> List[Dict[str, Any]]:
        """List the images of the split.

        Returns:
            List[dict]: ``mat_path``, ``mat_index`` (from 0), ``img_path``
            (``<mat_path>#<number from 1>``, which tells images apart),
            ``scene`` and ``scene_label`` per image, in the order of the
            split.

        Raises:
            MissingDepthError: If one of the files is missing.
            DepthFileError: If one of them is broken or has another layout.
        """
        path = osp.join(str(self.data_root or ''), self.mat_file)
        for file in (path, str(self.ann_file)):
            if not osp.isfile(file):
                raise MissingDepthError(
                    f'{file}: no such file; check data_root'
                )
        numbers = self._numbers(str(self.ann_file))
        kinds, count = _scene_types(path)
        if numbers and not 1 <= min(numbers) <= max(numbers) <= count:
            raise DepthFileError(
                f'{self.ann_file}: numbers from {min(numbers)} to '
                f'{max(numbers)}, but {path} has {count} images'
            )
        self._warn_count(len(numbers), self.split, str(self.ann_file))
        return [
            dict(
                img_path=f'{path}#{number}',
                mat_path=path,
                mat_index=number - 1,
                scene=kinds[number - 1],
                scene_label=scene_label(kinds[number - 1]),
            )
            for number in numbers
        ]

    def _numbers(self, path: str) -> List[int]:
        try:
            from scipy.io import loadmat
        except ImportError as error:
            raise ImportError(
                f'{path} needs scipy, which is not installed. Run: pip '
                'install scipy'
            ) from error
        key = self.KEYS[self.split]
        try:
            content = loadmat(path)
        except Exception as error:  # scipy raises what it likes
            raise DepthFileError(
                f'{path}: broken MATLAB file ({error})'
            ) from error
        if key not in content:
            names = sorted(k for k in content if not k.startswith('__'))
            raise DepthFileError(
                f'{path}: no {key} in this file, only {names}'
            )
        return [int(number) for number in content[key].ravel()]


def _scene_types(path: str) -> Any:
    """Kind of scene of every image ('' if unknown) and their number."""
    h5py = import_h5py()
    try:
        with h5py.File(path, 'r') as file:
            if 'images' not in file:
                raise DepthFileError(
                    f'{path}: no images in this file, only {sorted(file)}'
                )
            count = len(file['images'])
            if 'sceneTypes' not in file:
                return [''] * count, count
            # a MATLAB cell array: references to arrays of characters
            kinds = [
                ''.join(map(chr, file[ref][()].ravel()))
                for ref in file['sceneTypes'][()].ravel()
            ]
            return kinds, count
    except (OSError, RuntimeError, KeyError) as error:
        if isinstance(error, DepthFileError):
            raise
        raise DepthFileError(
            f'{path}: truncated or broken file ({error})'
        ) from error
