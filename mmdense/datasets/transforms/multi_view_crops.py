"""Several augmented views of an image that is decoded once."""

from dataclasses import fields
from difflib import get_close_matches
from typing import Any, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmdense.registry import TRANSFORMS

from ..image_io import MAX_PIXELS, BadImageError, EncodedImage, open_image
from .crops import choose_reduction, snap_crop
from .view_policy import ViewDraw, ViewPolicy

_KEYS = [f.name for f in fields(ViewPolicy) if f.init]


def _policy(view: Dict[str, Any]) -> ViewPolicy:
    for key in view:
        if key not in _KEYS:
            near = get_close_matches(key, _KEYS, n=1)
            hint = f' Did you mean {near[0]}?' if near else ''
            raise ValueError(
                f'MultiViewCrops.views: unknown key {key!r}.{hint}'
            )
    return ViewPolicy(**view)


@TRANSFORMS.register_module()
class MultiViewCrops(BaseTransform):
    """Read an image and cut augmented views from it.

    The same random policy as a chain of ``mmpretrain`` transforms under
    ``MultiView``, several times faster: all views are drawn from the size in
    the file's header, then the file is decoded once, at 1/2, 1/4 or 1/8 of
    its size where every crop still has as many pixels as its output; colour
    is touched only after cropping, and everything stays uint8.

    Required keys:

    - ``img_path``, or ``img`` (uint8 array) if it has been loaded already

    Added keys:

    - ``img`` (List[np.ndarray]): The views, RGB ``(H, W, 3)``, uint8, in the
      order of ``views``. ``mmpretrain.PackInputs`` makes ``(3, H, W)``
      tensors of them.
    - ``ori_shape`` (Tuple[int, int]): Height and width of the file.
    - ``view_params`` (List[dict]): With ``record=True``, the choices of each
      view (:class:`~.view_policy.ViewDraw`).

    Args:
        views (List[dict]): One dict of :class:`~.view_policy.ViewPolicy`
            arguments for each kind of view, ``num`` among them.
        record (bool): Keep the choices. Defaults to False.
        max_pixels (int): Larger files are bad. Defaults to 89,478,485.
        reduce (bool): Decode JPEG files at a fraction of their size where
            that suffices. Defaults to True.
        channel_order (str): ``'rgb'`` or ``'bgr'``, of an ``img`` that an
            earlier transform has loaded. Defaults to 'bgr', as
            ``LoadImageFromFile`` gives.
        backend_args (dict, optional): File backend of mmengine. Defaults to
            None, the local disk.
        crop_only (bool): Only crop and resize; the flips and colours of
            ``views`` are left to :class:`mmdense.MultiCropPreprocessor`,
            which takes the same ``views``. Defaults to False.

    Raises:
        ValueError: If there are no views or an argument is out of range.
    """

    def __init__(
        self,
        views: Sequence[Dict[str, Any]],
        record: bool = False,
        max_pixels: int = MAX_PIXELS,
        reduce: bool = True,
        channel_order: str = 'bgr',
        backend_args: Optional[dict] = None,
        crop_only: bool = False,
    ) -> None:
        if channel_order not in ('rgb', 'bgr'):
            raise ValueError(
                f"channel_order={channel_order!r}: 'rgb' or 'bgr'."
            )
        self.policies = [_policy(view) for view in views]
        if not self.policies:
            raise ValueError('MultiViewCrops.views is empty.')
        if crop_only:
            self.policies = [policy.crop_only() for policy in self.policies]
        self.plan: List[ViewPolicy] = []
        for policy in self.policies:
            self.plan += [policy] * policy.num
        self.record = record
        self.max_pixels = max_pixels
        self.reduce = reduce
        self.channel_order = channel_order
        self.backend_args = backend_args

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Make the views.

        Args:
            results (dict): Of the data set.

        Returns:
            dict: With the views.

        Raises:
            BadImageError: If the file is no usable image.
        """
        loaded = results.get('img')
        source: Optional[EncodedImage] = None
        if loaded is None:
            source = self.open(results['img_path'])
            width, height = source.width, source.height
        else:
            height, width = loaded.shape[:2]
        draws = [policy.draw(width, height) for policy in self.plan]
        reduction = 1
        if source is not None:
            image, reduction = self.decode(source, draws)
        else:
            image = self._as_rgb(loaded, results.get('img_path', 'img'))
        results['img'] = [
            policy.apply(image, view, reduction)
            for policy, view in zip(self.plan, draws)
        ]
        results['ori_shape'] = (height, width)
        if self.record:
            results['view_params'] = [view.to_dict() for view in draws]
        return results

    def open(self, path: str) -> EncodedImage:
        """Read a file and its header."""
        return open_image(path, self.max_pixels, self.backend_args)

    def decode(
        self, source: EncodedImage, draws: List[ViewDraw]
    ) -> Tuple[np.ndarray, int]:
        """Decode what the views need; their boxes may move a little.

        Args:
            source (EncodedImage): The file.
            draws (List[ViewDraw]): If the image is reduced, the boxes are
                moved to whole pixels of it, in place.

        Returns:
            Tuple[np.ndarray, int]: RGB pixels and their reduction.
        """
        if not self.reduce:
            return source.decode()
        pixels, reduction = source.decode(
            choose_reduction(
                [view.box for view in draws], [view.size for view in draws]
            )
        )
        if reduction > 1:
            for view in draws:
                view.box = snap_crop(
                    view.box, reduction, source.width, source.height
                )
        return pixels, reduction

    def _as_rgb(self, image: Any, path: str) -> np.ndarray:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise BadImageError(
                path,
                'rejected by the pipeline',
                f'need uint8 (H, W, 3), got {image.dtype} {image.shape}',
            )
        if self.channel_order == 'bgr':
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return np.ascontiguousarray(image)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(views={self.policies}, '
            f'record={self.record}, reduce={self.reduce})'
        )
