"""Images in one folder, depth maps in another."""

import os.path as osp
from typing import Any, Dict, List, Optional

from mmengine import fileio, list_from_file
from mmseg.datasets import BaseSegDataset

from mmdense.registry import DATASETS

from .loading import MissingDepthError


@DATASETS.register_module()
class DepthFolder(BaseSegDataset):
    """Data set of images and depth maps with equal names.

    .. code-block:: none

        data_root/<img_path>/a/b.jpg
        data_root/<depth_map_path>/a/b.png     16-bit, 0 = no measurement

    Args:
        data_prefix (dict): ``img_path`` and ``depth_map_path``, relative to
            ``data_root``. Defaults to
            ``dict(img_path='images', depth_map_path='depth')``.
        img_suffix (str): Suffix of images. Defaults to '.jpg'.
        depth_map_suffix (str): Suffix of depth maps. Defaults to '.png'.
        depth_rescale_factor (float, optional): Metres per stored unit, given
            to ``mmdense.LoadDepth`` of the pipeline unless that has its own.
            None leaves the pipeline alone. Defaults to None.
        ann_file (str): List of names without suffix, one a line, relative to
            ``data_root``. '' for all images below ``img_path``. Defaults to
            ''.
        pipeline (list, optional): Transforms. Defaults to None.
        **kwargs (Any): See ``mmseg.BaseSegDataset``.
    """

    METAINFO: Dict[str, Any] = dict(classes=(), palette=[])

    def __init__(
        self,
        data_prefix: Optional[dict] = None,
        img_suffix: str = '.jpg',
        depth_map_suffix: str = '.png',
        depth_rescale_factor: Optional[float] = None,
        ann_file: str = '',
        pipeline: Optional[list] = None,
        **kwargs: Any,
    ) -> None:
        pipeline = [
            _with_factor(step, depth_rescale_factor) for step in pipeline or []
        ]
        super().__init__(
            data_prefix=data_prefix
            or dict(img_path='images', depth_map_path='depth'),
            img_suffix=img_suffix,
            seg_map_suffix=depth_map_suffix,
            ann_file=ann_file,
            pipeline=pipeline,
            **kwargs,
        )

    def load_data_list(self) -> List[Dict[str, Any]]:
        """Pairs of an image and a depth map.

        Returns:
            List[dict]: ``img_path``, ``depth_map_path`` and ``seg_fields``
            per image, in the order of the list or of the names.

        Raises:
            MissingDepthError: If the folder or list is missing or empty, or
                images have no depth map.
        """
        images = self.data_prefix['img_path']
        depths = self.data_prefix['depth_map_path']
        names = self._names(images)
        if not names:
            raise MissingDepthError(
                f'{images}: no *{self.img_suffix} here; check data_root, '
                'data_prefix and img_suffix'
            )
        data = [
            dict(
                img_path=osp.join(images, name + self.img_suffix),
                depth_map_path=osp.join(depths, name + self.seg_map_suffix),
                seg_fields=[],
            )
            for name in names
        ]
        lacking = [
            str(item['depth_map_path'])
            for item in data
            if not fileio.exists(item['depth_map_path'], self.backend_args)
        ]
        if lacking:
            raise MissingDepthError(
                f'{len(lacking)} of {len(data)} images have no depth map, '
                f'the first is {lacking[0]}; check data_prefix and '
                'depth_map_suffix'
            )
        return data

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


def _with_factor(step: Any, factor: Optional[float]) -> Any:
    """Give LoadDepth the factor of the data set, if it has none itself."""
    if (
        factor is None
        or not isinstance(step, dict)
        or str(step.get('type')).rsplit('.', 1)[-1] != 'LoadDepth'
    ):
        return step
    return {'depth_rescale_factor': factor, **step}
