"""Windows cut out of image and depth."""

from typing import Any, Dict, Optional, Sequence

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms import CenterCrop as _CenterCrop

from mmdense.registry import TRANSFORMS
from mmdense.utils.errors import UserValueError

from ..errors import DepthSampleError

#: Height and width of the KITTI benchmark crop.
KB_HEIGHT, KB_WIDTH = 352, 1216


@TRANSFORMS.register_module()
class FixedCrop(BaseTransform):
    """Cut a fixed window out of image and maps.

    Args:
        rows (Sequence[int]): First row and the one after the last.
        cols (Sequence[int]): First column and the one after the last.
        size (Sequence[int], optional): Height and width that the image must
            have; None for any that contains the window. Defaults to None.
    """

    def __init__(
        self,
        rows: Sequence[int],
        cols: Sequence[int],
        size: Optional[Sequence[int]] = None,
    ) -> None:
        (top, bottom), (left, right) = rows, cols
        if not (0 <= top < bottom and 0 <= left < right):
            raise UserValueError(
                f'FixedCrop: rows={tuple(rows)}, cols={tuple(cols)} is no '
                'window'
            )
        self.rows, self.cols = (top, bottom), (left, right)
        self.size = None if size is None else tuple(size)

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Cut image and every map of ``seg_fields``.

        Args:
            results (dict): With ``img``.

        Returns:
            dict: With the cut ``img``, maps and ``img_shape``.

        Raises:
            DepthSampleError: If the image has another size than demanded.
        """
        size = results['img'].shape[:2]
        wanted = self.size or size
        if size != wanted or self.rows[1] > size[0] or self.cols[1] > size[1]:
            raise DepthSampleError(
                f'{results.get("img_path")}: image of {size}, but {self!r} '
                f'needs {self.size or "a larger one"}'
            )
        for key in ['img', *results.get('seg_fields', [])]:
            results[key] = results[key][slice(*self.rows), slice(*self.cols)]
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(rows={self.rows}, cols={self.cols}, '
            f'size={self.size})'
        )


# mmcv's CenterCrop cuts gt_seg_map only and leaves depth at full size.
@TRANSFORMS.register_module()
class CenterCrop(_CenterCrop):
    """``mmcv.CenterCrop`` that cuts every map of ``seg_fields``.

    Args:
        crop_size (int or Tuple[int, int]): **Width and height**, as in mmcv.
        **kwargs (Any): See mmcv.
    """

    def _crop_seg_map(
        self, results: Dict[str, Any], bboxes: np.ndarray
    ) -> None:
        for key in results.get('seg_fields', []):
            results[key] = mmcv.imcrop(results[key], bboxes=bboxes)


@TRANSFORMS.register_module()
class KBCrop(BaseTransform):
    """The KITTI benchmark crop: bottom 352 rows, central 1216 columns.

    Rows H - 352 to H and columns (W - 1216) // 2 to (W - 1216) // 2 + 1216.
    Adds ``kb_crop``, the window (top, bottom, left, right) in the full
    image, and declares the crop the original size, so that predictions are
    made for it.

    Args:
        depth (bool): Whether maps are cut, too. False leaves the truth full,
            as ``mmdense.DepthMetric`` wants it for the protocols of KITTI.
            Defaults to True.
    """

    def __init__(self, depth: bool = True) -> None:
        self.depth = depth

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Cut the image and, if asked for, every map of ``seg_fields``.

        Args:
            results (dict): With ``img``.

        Returns:
            dict: With the cut ``img`` and maps, ``kb_crop``, ``img_shape``
            and ``ori_shape``.

        Raises:
            DepthSampleError: If the image is smaller than the crop.
        """
        height, width = results['img'].shape[:2]
        top, left = height - KB_HEIGHT, (width - KB_WIDTH) // 2
        if top < 0 or left < 0:
            raise DepthSampleError(
                f'{results.get("img_path")}: image of {(height, width)}, but '
                f'KBCrop needs at least {(KB_HEIGHT, KB_WIDTH)}'
            )
        window = (top, top + KB_HEIGHT, left, left + KB_WIDTH)
        keys = ['img']
        if self.depth:
            keys += results.get('seg_fields', [])
        for key in keys:
            if results[key].shape[:2] != (height, width):
                raise DepthSampleError(
                    f'{results.get("img_path")}: {key} of '
                    f'{results[key].shape[:2]} beside an image of '
                    f'{(height, width)}'
                )
            results[key] = results[key][
                window[0] : window[1], window[2] : window[3]
            ]
        size = results['img'].shape[:2]
        results['kb_crop'] = window
        results['img_shape'] = results['ori_shape'] = size
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(depth={self.depth})'


@TRANSFORMS.register_module()
class ResetOriShape(BaseTransform):
    """Declare the present size the original one.

    Predictions are resized to ``ori_shape``. A protocol that scores crops
    (FastDepth: 224x224) puts this at the end of its test pipeline, otherwise
    the prediction for the crop would be stretched over the full image.
    """

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Set ``ori_shape``, ``img_shape`` and ``pad_shape``.

        Args:
            results (dict): With ``img``.

        Returns:
            dict: The same with the new sizes.
        """
        size = results['img'].shape[:2]
        results['ori_shape'] = results['img_shape'] = size
        results['pad_shape'] = size
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
