"""KITTI, the split of Eigen et al. by the lists of BTS."""

from typing import Any, Dict, List, Optional

from mmdense.registry import DATASETS
from mmdense.utils.errors import UserValueError

from .base import DepthDataset
from .errors import DepthFileError, MissingDepthError, named
from .lists import find_base, folder_of, read_depth_list, with_suffix


@DATASETS.register_module()
class KITTIDepth(DepthDataset):
    """KITTI raw images with the improved depth of the depth benchmark.

    .. code-block:: none

        data_root/kitti_eigen_train.txt       23,158 lines
        data_root/kitti_eigen_test.txt        697 lines, 45 without depth
        data_root/raw/<date>/<drive>/image_02/data/*.png         or .jpg
        data_root/data_depth_annotated/{train,val}/<drive>/proj_depth/
            groundtruth/image_02/*.png

    Lines are ``image depth focal``; images may also lie in ``input`` or in
    ``data_root``, drives with depth directly in ``data_depth_annotated``, in
    ``gt_depth`` or in ``data_root``. Lines whose depth is ``None`` are left
    out and counted. Depth is stored as 16-bit PNG, 256 a metre.

    Sources: [0] Geiger et al., Vision meets Robotics, 2013. [1] Uhrig et
    al., Sparsity Invariant CNNs, 2017. [2] Eigen et al., 2014. [3] Lee et
    al., From Big to Small (BTS), 2019.

    Args:
        split (str): 'train' or 'test'. Defaults to 'train'.
        data_root (str): Folder with the lists. Defaults to 'data/kitti'.
        ann_file (str): List, relative to ``data_root``. '' for
            ``kitti_eigen_<split>.txt``. Defaults to ''.
        **kwargs (Any): See :class:`DepthDataset`.

    Raises:
        UserValueError: If ``split`` is unknown.
    """

    NAME = 'kitti'
    PLAUSIBLE_RANGE = (1.0, 90.0)
    # with depth; the test list has 697 lines
    EXPECTED = {'train': 23158, 'test': 652}
    IMAGE_BASES = ('raw', 'input', '')
    DEPTH_BASES = (
        'data_depth_annotated/train',
        'data_depth_annotated/val',
        'data_depth_annotated',
        'gt_depth',
        '',
    )

    def __init__(
        self,
        split: str = 'train',
        data_root: str = 'data/kitti',
        ann_file: str = '',
        **kwargs: Any,
    ) -> None:
        if split not in self.EXPECTED:
            raise UserValueError(
                f'KITTIDepth: split={split!r}, choose from '
                f'{tuple(self.EXPECTED)}'
            )
        self.split = split
        #: lines of the list that have no depth
        self.without_depth = 0
        super().__init__(
            data_root=data_root,
            ann_file=ann_file or f'kitti_eigen_{split}.txt',
            **kwargs,
        )

    def load_data_list(self) -> List[Dict[str, Any]]:
        """Read the list.

        Returns:
            List[dict]: ``img_path``, ``depth_map_path``, ``focal``
            (pixels) and ``scene`` (the drive) per entry with depth, in the
            order of the list.

        Raises:
            MissingDepthError: If the list is missing, or none of its images
                or drives with depth is there.
            DepthFileError: If a line of the list is malformed.
        """
        path = str(self.ann_file)
        entries, self.without_depth = read_depth_list(path, self.backend_args)
        root = str(self.data_root or '')
        images, suffix = find_base(
            root,
            self.IMAGE_BASES,
            [entry.image for entry in entries],
            ('.jpg', '.png'),
            self.backend_args,
        )
        # drives of one list lie in both train and val
        folders: Dict[str, Optional[str]] = {}
        for entry in entries:
            drive = entry.depth.split('/')[0]
            if drive not in folders:
                folders[drive] = folder_of(
                    root, self.DEPTH_BASES, drive, self.backend_args
                )
        without = [drive for drive, folder in folders.items() if not folder]
        if without:
            text = (
                f'{len(without)} of {len(folders)} drives of {path} have no '
                f'depth in {named(self.DEPTH_BASES)} of {root}: '
                f'{named(without)}; check data_root'
            )
            if len(without) == len(folders):
                raise MissingDepthError(text)
            if self.strict:
                raise DepthFileError(text)
            self._warn(text)
        if self.without_depth:
            self._warn(
                f'{path}: {self.without_depth} of '
                f'{len(entries) + self.without_depth} entries have no depth '
                f'(None) and are left out; {len(entries)} remain'
            )
        self._warn_count(len(entries), self.split, path)
        fallback = f'{root}/{self.DEPTH_BASES[0]}'
        data = []
        for entry in entries:
            drive = entry.depth.split('/')[0]
            data.append(
                dict(
                    img_path=with_suffix(f'{images}/{entry.image}', suffix),
                    depth_map_path=(
                        f'{folders[drive] or fallback}/{entry.depth}'
                    ),
                    focal=entry.focal,
                    scene=drive,
                )
            )
        return data
