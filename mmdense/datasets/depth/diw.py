"""Depth in the Wild: images with one pair of points each."""

import os.path as osp
from typing import Any, Dict, List, Tuple

import numpy as np
from mmengine import fileio, list_from_file

from mmdense.registry import DATASETS

from .base import DepthDataset
from .errors import DepthFileError, MissingDepthError


@DATASETS.register_module()
class DIW(DepthDataset):
    """Depth in the Wild, 74,441 test images; no depth maps.

    .. code-block:: none

        data_root/DIW_test.csv
        data_root/DIW_test/<name>.thumb              JPEG

    The list alternates between the path of an image and
    ``yA,xA,yB,xB,relation,width,height``, points counted from 1. '>' is read
    as "A is farther than B", '<' as nearer: the list says nothing about it,
    and a model that is better than chance shows at once if it is meant the
    other way round (WHDR above 50 %).

    Score it with ``mmdense.WHDRMetric``.

    Sources: [0] Chen et al., Single-Image Depth Perception in the Wild,
    2016.

    Args:
        data_root (str): Folder with the list. Defaults to 'data/diw'.
        ann_file (str): The list, relative to ``data_root``. Defaults to
            'DIW_test.csv'.
        **kwargs (Any): See ``DepthDataset``.
    """

    NAME = 'diw'
    EXPECTED = {'test': 74441}
    RELATIONS = {'>': 1, '<': -1}

    def __init__(
        self,
        data_root: str = 'data/diw',
        ann_file: str = 'DIW_test.csv',
        **kwargs: Any,
    ) -> None:
        super().__init__(data_root=data_root, ann_file=ann_file, **kwargs)

    def load_data_list(self) -> List[Dict[str, Any]]:
        """Read the list.

        Returns:
            List[dict]: ``img_path``; ``depth_pairs``, ``(1, 5)``: row and
            column of A and B from 0, relation 1 or -1; and
            ``depth_pairs_size``, height and width of the marked image.

        Raises:
            MissingDepthError: If the list or the first image is missing.
            DepthFileError: If a line of the list is malformed.
        """
        path = str(self.ann_file)
        if not fileio.exists(path, self.backend_args):
            raise MissingDepthError(
                f'{path}: no such list; data_root has to contain '
                'DIW_test.csv and DIW_test/*.thumb'
            )
        lines = [
            line.strip()
            for line in list_from_file(path, backend_args=self.backend_args)
        ]
        while lines and not lines[-1]:
            lines.pop()
        if not lines or len(lines) % 2:
            raise DepthFileError(
                f'{path}: {len(lines)} lines; expected pairs of lines, the '
                'path of an image and its points'
            )
        data = []
        for number in range(0, len(lines), 2):
            image = osp.normpath(lines[number])
            pairs, size = self._points(path, number + 2, lines[number + 1])
            data.append(
                dict(
                    img_path=osp.join(str(self.data_root), image),
                    depth_pairs=pairs,
                    depth_pairs_size=size,
                )
            )
        if not fileio.exists(data[0]['img_path'], self.backend_args):
            raise MissingDepthError(
                f'{data[0]["img_path"]}: the first image of {path} is '
                'missing; check data_root'
            )
        self._warn_count(len(data), 'test', path)
        return data

    def _points(
        self, path: str, number: int, line: str
    ) -> Tuple[np.ndarray, Tuple[int, int]]:
        words = [word.strip() for word in line.split(',')]
        values: List[int] = []
        relation, size = 0, (0, 0)
        try:
            *points, sign, width, height = words
            relation = self.RELATIONS[sign.strip('"')]
            values = [int(float(word)) - 1 for word in points]
            size = int(float(height)), int(float(width))
        except (ValueError, KeyError):
            values = []
        inside = len(values) == 4 and all(
            0 <= value < size[i % 2] for i, value in enumerate(values)
        )
        if not inside:
            raise DepthFileError(
                f'{path}, line {number}: expected '
                f"'yA,xA,yB,xB,relation,width,height' with points from 1 and "
                f"'<' or '>', got {line!r}"
            )
        return np.array([[*values, relation]]), size
