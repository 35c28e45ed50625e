"""Images in one folder, depth maps in another."""

import os.path as osp
from typing import Any, Dict, List, Optional

from mmengine import fileio, list_from_file

from mmdense.registry import DATASETS
from mmdense.utils.errors import UserValueError

from .base import DepthDataset
from .errors import MissingDepthError


@DATASETS.register_module()
class DepthFolder(DepthDataset):
    """Data set of images and depth maps with equal names.

    .. code-block:: none

        data_root/<img_path>/a/b.jpg
        data_root/<depth_map_path>/a/b.png     16-bit, 0 = no measurement
        data_root/<mask_path>/a/b.png          optional, 0 = invalid

    Args:
        data_prefix (dict): ``img_path`` and ``depth_map_path``, relative to
            ``data_root``, and, if there are masks of valid pixels,
            ``mask_path``. Defaults to
            ``dict(img_path='images', depth_map_path='depth')``.
        img_suffix (str): Suffix of images. Defaults to '.jpg'.
        depth_map_suffix (str): Suffix of depth maps. Defaults to '.png'.
        mask_suffix (str): Suffix of masks. Defaults to '.png'.
        depth_rescale_factor (float, optional): Metres per stored unit, given
            to ``mmdense.LoadDepth`` of the pipeline; another value there is
            an error. None leaves the pipeline alone. Defaults to None.
        stored (str): 'depth' or 'inverse' (inverse depth or disparity),
            given to ``mmdense.LoadDepth`` in the same way. Defaults to
            'depth'.
        ann_file (str): List of names without suffix, one a line, relative to
            ``data_root``. '' for all images below ``img_path``. Defaults to
            ''.
        dataset_name (str, optional): None for the last part of
            ``data_root``. Defaults to None.
        plausible_range (Sequence[float] or str, optional): See
            :class:`DepthDataset`; 'auto' is 0.1 to 200 m, and no check for
            inverse depth, whose scale is unknown. Defaults to 'auto'.
        pipeline (list, optional): Transforms. Defaults to None.
        data_root (str): Defaults to ''.
        **kwargs (Any): See :class:`DepthDataset`.

    Pairs without an image or a depth map are left out of the training set
    with a warning; with ``strict`` they are an error.

    Raises:
        UserValueError: If data set and ``mmdense.LoadDepth`` contradict each
            other.
    """

    NAME = 'folder'
    PLAUSIBLE_RANGE = (0.1, 200.0)

    def __init__(
        self,
        data_prefix: Optional[dict] = None,
        img_suffix: str = '.jpg',
        depth_map_suffix: str = '.png',
        mask_suffix: str = '.png',
        depth_rescale_factor: Optional[float] = None,
        stored: str = 'depth',
        ann_file: str = '',
        dataset_name: Optional[str] = None,
        plausible_range: Any = 'auto',
        pipeline: Optional[list] = None,
        data_root: str = '',
        **kwargs: Any,
    ) -> None:
        given: Dict[str, Any] = {}
        if depth_rescale_factor is not None:
            given['depth_rescale_factor'] = depth_rescale_factor
        if stored != 'depth':
            given['stored'] = stored
            if plausible_range == 'auto':
                plausible_range = None
        if depth_rescale_factor is not None:
            self.factor_key = 'depth_rescale_factor of the data set'
        self.img_suffix = img_suffix
        self.depth_map_suffix = depth_map_suffix
        self.mask_suffix = mask_suffix
        super().__init__(
            dataset_name=dataset_name
            or osp.basename(osp.normpath(data_root or '')).strip('.'),
            plausible_range=plausible_range,
            data_root=data_root,
            data_prefix=data_prefix
            or dict(img_path='images', depth_map_path='depth'),
            ann_file=ann_file,
            pipeline=[_with(step, given) for step in pipeline or []],
            **kwargs,
        )

    def load_data_list(self) -> List[Dict[str, Any]]:
        """Pairs of an image and a depth map.

        Returns:
            List[dict]: ``img_path``, ``depth_map_path`` and, with masks,
            ``mask_path`` per image, in the order of the list or of the
            names.

        Raises:
            MissingDepthError: If a folder or the list is missing or empty.
            DepthFileError: If no pair is complete, or with ``strict`` one is
                not.
        """
        images = self.data_prefix['img_path']
        depths = self.data_prefix['depth_map_path']
        masks = self.data_prefix.get('mask_path')
        names = self._names(images)
        if not names:
            raise MissingDepthError(
                f'{images}: no *{self.img_suffix} here; check data_root, '
                'data_prefix and img_suffix'
            )
        if not fileio.isdir(depths, self.backend_args):
            raise MissingDepthError(
                f'{depths}: no such folder; check data_root and data_prefix'
            )
        data: List[Dict[str, Any]] = []
        for name in names:
            item = dict(
                img_path=osp.join(images, name + self.img_suffix),
                depth_map_path=osp.join(depths, name + self.depth_map_suffix),
            )
            if masks:
                item['mask_path'] = osp.join(masks, name + self.mask_suffix)
            data.append(item)
        # names of a list may have no image either
        keys = ('img_path',) if self.ann_file else ()
        lacking: Dict[int, str] = {}
        for index, item in enumerate(data):
            for key in (*keys, 'depth_map_path'):
                if not fileio.exists(item[key], self.backend_args):
                    lacking.setdefault(index, item[key])
        return self._usable(
            data,
            lacking,
            'no image or no depth map (check data_prefix, img_suffix and '
            'depth_map_suffix)',
        )

    def _names(self, folder: str) -> List[str]:
        if self.ann_file:
            if not fileio.exists(self.ann_file, self.backend_args):
                raise MissingDepthError(
                    f'{self.ann_file}: no such list; check ann_file'
                )
            lines = list_from_file(
                self.ann_file, backend_args=self.backend_args
            )
            return [line.strip() for line in lines if line.strip()]
        if not fileio.isdir(folder, self.backend_args):
            raise MissingDepthError(
                f'{folder}: no such folder; check data_root and data_prefix'
            )
        found = fileio.list_dir_or_file(
            folder,
            list_dir=False,
            suffix=self.img_suffix,
            recursive=True,
            backend_args=self.backend_args,
        )
        return sorted(name[: -len(self.img_suffix)] for name in found)


def _with(step: Any, given: Dict[str, Any]) -> Any:
    """Give LoadDepth what the data set knows."""
    if (
        not given
        or not isinstance(step, dict)
        or str(step.get('type')).rsplit('.', 1)[-1] != 'LoadDepth'
    ):
        return step
    for key, value in given.items():
        if key in step and step[key] != value:
            raise UserValueError(
                f'DepthFolder: {key}={value!r} of the data set and '
                f'{key}={step[key]!r} of {step["type"]} in its pipeline '
                'contradict each other; leave one of them out'
            )
    return {**given, **step}
