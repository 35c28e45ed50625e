"""Depth of Cityscapes from its disparity."""

import os.path as osp
from typing import Any, Dict, List

from mmengine import fileio

from mmdense.registry import DATASETS
from mmdense.utils.errors import UserValueError

from .base import DepthDataset
from .errors import MissingDepthError

_IMAGE = '_leftImg8bit.png'


@DATASETS.register_module()
class CityscapesDepth(DepthDataset):
    """Left images of Cityscapes with disparity and camera files.

    .. code-block:: none

        data_root/leftImg8bit/<split>/<city>/<id>_leftImg8bit.png
        data_root/disparity/<split>/<city>/<id>_disparity.png
        data_root/camera/<split>/<city>/<id>_camera.json

    Read depth with ``mmdense.LoadDisparity``. Images without disparity or
    camera are left out of the training set with a warning; with ``strict``
    they are an error.

    Source: Cordts et al., The Cityscapes Dataset, 2016.

    Args:
        split (str): 'train' (2,975), 'val' (500) or 'train_extra' (19,997).
            Defaults to 'train'.
        data_root (str): Defaults to 'data/cityscapes'.
        data_prefix (dict, optional): Names of the three folders. Defaults
            to ``dict(img_path='leftImg8bit', depth_map_path='disparity',
            camera_path='camera')``.
        **kwargs (Any): See :class:`DepthDataset`.

    Raises:
        UserValueError: If ``split`` is unknown.
    """

    NAME = 'cityscapes'
    PLAUSIBLE_RANGE = (1.0, 250.0)
    EXPECTED = {'train': 2975, 'val': 500, 'train_extra': 19997}

    def __init__(
        self,
        split: str = 'train',
        data_root: str = 'data/cityscapes',
        data_prefix: Any = None,
        **kwargs: Any,
    ) -> None:
        if split not in self.EXPECTED:
            raise UserValueError(
                f'CityscapesDepth: split={split!r}, choose from '
                f'{tuple(self.EXPECTED)}'
            )
        self.split = split
        prefix = dict(
            img_path='leftImg8bit',
            depth_map_path='disparity',
            camera_path='camera',
        )
        prefix.update(data_prefix or {})
        super().__init__(data_root=data_root, data_prefix=prefix, **kwargs)

    def load_data_list(self) -> List[Dict[str, Any]]:
        """List the images of the split.

        Returns:
            List[dict]: ``img_path``, ``depth_map_path``, ``camera_path``
            and ``scene`` (the city) per image, ordered by name.

        Raises:
            MissingDepthError: If a folder is missing or has no image.
            DepthFileError: If no image has disparity and camera file, or
                with ``strict`` one has not.
        """
        images = self._files('img_path', _IMAGE)
        if not images:
            raise MissingDepthError(
                f'{self._folder("img_path")}: no <city>/*{_IMAGE} here; '
                'check data_root and split'
            )
        disparities = set(self._files('depth_map_path', '_disparity.png'))
        cameras = set(self._files('camera_path', '_camera.json'))
        lacking: Dict[int, str] = {}
        for index, name in enumerate(images):
            for key, ending, found in (
                ('depth_map_path', '_disparity.png', disparities),
                ('camera_path', '_camera.json', cameras),
            ):
                if name not in found:
                    lacking.setdefault(index, self._path(key, name, ending))
        data = [
            dict(
                img_path=self._path('img_path', name, _IMAGE),
                depth_map_path=self._path(
                    'depth_map_path', name, '_disparity.png'
                ),
                camera_path=self._path('camera_path', name, '_camera.json'),
                scene=osp.dirname(name),
            )
            for name in images
        ]
        data = self._usable(
            data,
            lacking,
            'no disparity or no camera file (check data_root)',
        )
        self._warn_count(len(data), self.split, self._folder('img_path'))
        return data

    def _folder(self, key: str) -> str:
        return osp.join(self.data_prefix[key], self.split)

    def _path(self, key: str, name: str, ending: str) -> str:
        return osp.join(self._folder(key), name + ending)

    def _files(self, key: str, ending: str) -> List[str]:
        folder = self._folder(key)
        if not fileio.isdir(folder, self.backend_args):
            raise MissingDepthError(
                f'{folder}: no such folder; check data_root and data_prefix'
            )
        names = fileio.list_dir_or_file(
            folder,
            list_dir=False,
            suffix=ending,
            recursive=True,
            backend_args=self.backend_args,
        )
        return sorted(name[: -len(ending)] for name in names)
