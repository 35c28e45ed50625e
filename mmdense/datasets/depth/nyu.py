"""NYU Depth V2 by the lists of BTS, and its kinds of scenes."""

import os.path as osp
from typing import Any, Dict, List, Optional

from mmdense.registry import DATASETS
from mmdense.utils.errors import UserValueError

from .base import DepthDataset
from .lists import find_base, read_depth_list

#: The 25 kinds of scenes of the BTS training list: first words of the names
#: of its 28 kinds of folders (home_office and home_storage, office and
#: office_kitchen, study and study_room fall together), in alphabetical
#: order. BinsFormer's implementation has the same 25, numbered as they come.
SCENE_CLASSES = (
    'basement',
    'bathroom',
    'bedroom',
    'bookstore',
    'cafe',
    'classroom',
    'computer',
    'conference',
    'dinette',
    'dining',
    'excercise',
    'foyer',
    'furniture',
    'home',
    'indoor',
    'kitchen',
    'laundry',
    'living',
    'nyu',
    'office',
    'playroom',
    'printer',
    'reception',
    'student',
    'study',
)


def scene_label(scene: str) -> int:
    """Number of the kind of a scene.

    Args:
        scene (str): Name of its folder, for instance 'living_room_0019'.

    Returns:
        int: Index into :data:`SCENE_CLASSES`, -1 if the kind is unknown.
    """
    kind = scene.split('_')[0].lower()
    return SCENE_CLASSES.index(kind) if kind in SCENE_CLASSES else -1


@DATASETS.register_module()
class NYUDepth(DepthDataset):
    """NYU Depth V2, the training and test lists of BTS.

    .. code-block:: none

        data_root/nyu_train.txt                    24,231 lines
        data_root/nyu_test.txt                     654 lines
        data_root/sync/<scene>/rgb_*.jpg           and sync_depth_*.png
        data_root/official_splits/test/<scene>/... the same

    Lines are ``image depth focal``; paths may start with '/' and be relative
    to ``sync``, to ``official_splits/test`` or to ``data_root``. Depth is
    stored as 16-bit PNG in millimetres.

    Sources: [0] Silberman et al., Indoor Segmentation and Support Inference
    from RGBD Images, 2012. [1] Lee et al., From Big to Small (BTS), 2019.

    Args:
        split (str): 'train' or 'test'. Defaults to 'train'.
        data_root (str): Folder with the lists. Defaults to 'data/nyu'.
        ann_file (str): List, relative to ``data_root``. '' for
            ``nyu_<split>.txt``. Defaults to ''.
        **kwargs (Any): See :class:`DepthDataset`.

    Raises:
        UserValueError: If ``split`` is unknown.
    """

    NAME = 'nyu'
    PLAUSIBLE_RANGE = (0.6, 15.0)
    EXPECTED = {'train': 24231, 'test': 654}
    BASES = ('sync', 'official_splits/test', '')

    def __init__(
        self,
        split: str = 'train',
        data_root: str = 'data/nyu',
        ann_file: str = '',
        **kwargs: Any,
    ) -> None:
        if split not in self.EXPECTED:
            raise UserValueError(
                f'NYUDepth: split={split!r}, choose from '
                f'{tuple(self.EXPECTED)}'
            )
        self.split = split
        super().__init__(
            data_root=data_root,
            ann_file=ann_file or f'nyu_{split}.txt',
            **kwargs,
        )

    def load_data_list(self) -> List[Dict[str, Any]]:
        """Read the list.

        Returns:
            List[dict]: ``img_path``, ``depth_map_path``, ``focal``
            (pixels), ``scene`` and ``scene_label`` per entry, in the order
            of the list.

        Raises:
            MissingDepthError: If the list is missing or none of its images
                is there.
            DepthFileError: If a line of the list is malformed.
        """
        path = str(self.ann_file)
        entries, _ = read_depth_list(path, self.backend_args)
        bases = self.BASES
        if self.split == 'test':
            bases = (bases[1], bases[0], *bases[2:])
        folder, suffix = find_base(
            str(self.data_root or ''),
            bases,
            [entry.image for entry in entries],
            backend_args=self.backend_args,
        )
        self._warn_count(len(entries), self.split, path)
        return [
            _info(folder, entry.image, entry.depth, entry.focal)
            for entry in entries
        ]


def _info(
    folder: str, image: str, depth: str, focal: Optional[float]
) -> Dict[str, Any]:
    scene = osp.basename(osp.dirname(image))
    return dict(
        img_path=osp.join(folder, image),
        depth_map_path=osp.join(folder, depth),
        focal=focal,
        scene=scene,
        scene_label=scene_label(scene),
    )
