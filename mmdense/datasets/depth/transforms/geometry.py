"""Rotation and scaling of image and depth."""

from typing import Any, Dict, Sequence, Tuple

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import RandomRotate, Resize

from mmdense.registry import TRANSFORMS
from mmdense.utils.errors import UserValueError


# mmseg's RandomRotate is always bilinear on the image and fills with 255.
@TRANSFORMS.register_module()
class RandomRotateDepth(RandomRotate):
    """Rotate image and maps about the centre; what comes in is invalid.

    Maps are rotated with nearest neighbour and filled with 0.

    Args:
        degree (float or Tuple[float, float]): Range of the angle in degrees;
            a number d is (-d, d).
        prob (float): Probability. Defaults to 1.0.
        interpolation (str): 'bilinear' or 'nearest', of the image. Defaults
            to 'bilinear'.
        pad_val (float): Fill of the image. Defaults to 0.
    """

    def __init__(
        self,
        degree: Any,
        prob: float = 1.0,
        interpolation: str = 'bilinear',
        pad_val: float = 0,
    ) -> None:
        super().__init__(
            prob=prob, degree=degree, pad_val=pad_val, seg_pad_val=0
        )
        if interpolation not in ('bilinear', 'nearest'):
            raise UserValueError(
                f'RandomRotateDepth: interpolation={interpolation!r}, choose '
                "'bilinear' or 'nearest'"
            )
        self.interpolation = interpolation

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Rotate image and every map of ``seg_fields`` by one angle.

        Args:
            results (dict): With ``img``.

        Returns:
            dict: With the rotated ``img`` and maps.
        """
        rotate, angle = self.generate_degree()
        if not rotate:
            return results
        results['img'] = mmcv.imrotate(
            results['img'],
            angle,
            border_value=self.pal_val,
            interpolation=self.interpolation,
        )
        for key in results.get('seg_fields', []):
            results[key] = mmcv.imrotate(
                results[key], angle, border_value=0, interpolation='nearest'
            )
        return results


@TRANSFORMS.register_module()
class RandomScaleDepth(BaseTransform):
    """Enlarge by a random s and divide depth by s, as if coming closer.

    Sources: [0] Eigen et al., 2014, section 3.3. [1] Ma and Karaman,
    Sparse-to-Dense, 2018 (range).

    Args:
        scale_range (Tuple[float, float]): Range of s, uniform. Defaults to
            (1.0, 1.5).
        interpolation (str): Of the image; maps are always nearest. Defaults
            to 'nearest'.
    """

    def __init__(
        self,
        scale_range: Tuple[float, float] = (1.0, 1.5),
        interpolation: str = 'nearest',
    ) -> None:
        low, high = scale_range
        if not 0 < low <= high:
            raise UserValueError(
                f'RandomScaleDepth: scale_range={scale_range} is no range of '
                'positive numbers'
            )
        self.scale_range = (float(low), float(high))
        self.interpolation = interpolation

    @cache_randomness
    def random_scale(self) -> float:
        """Draw s."""
        return float(np.random.uniform(*self.scale_range))

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Resize image and maps by s, divide depth by s.

        Args:
            results (dict): With ``img``.

        Returns:
            dict: With the new ``img``, maps, ``gt_depth_map`` and
            ``depth_scale`` (s).
        """
        scale = self.random_scale()
        resize = Resize(scale_factor=scale, interpolation=self.interpolation)
        results = resize.transform(results)
        if 'gt_depth_map' in results:
            depth = results['gt_depth_map'] / np.float32(scale)
            results['gt_depth_map'] = depth
        results['depth_scale'] = scale
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scale_range={self.scale_range}, '
            f'interpolation={self.interpolation!r})'
        )


def dpt_size(
    width: int,
    height: int,
    scale: Sequence[int],
    mode: str = 'minimal',
    multiple: int = 32,
) -> Tuple[int, int]:
    """Input size of DPT for an image.

    Of the two factors scale / side, the aspect ratio is kept with the one
    nearer to 1 ('minimal'), the larger ('lower_bound') or the smaller
    ('upper_bound'). Each side is rounded to the nearest multiple (halves to
    the even one), and up or down instead where a bound would be passed.

    Source: Ranftl et al., MiDaS, 2020 (input transform of its code).

    Args:
        width (int): Of the image.
        height (int): Of the image.
        scale (Sequence[int]): Nominal width and height.
        mode (str): See above. Defaults to 'minimal'.
        multiple (int): What sides are multiples of. Defaults to 32.

    Returns:
        Tuple[int, int]: Width and height.

    Examples:
        >>> dpt_size(640, 480, (384, 384))
        (512, 384)
        >>> dpt_size(1242, 375, (384, 384))
        (1280, 384)
    """
    across, down = scale[0] / width, scale[1] / height
    if mode == 'minimal':
        factor = across if abs(1 - across) < abs(1 - down) else down
    else:
        factor = (
            max(across, down) if mode == 'lower_bound' else min(across, down)
        )
    sides = []
    for side, bound in ((width, scale[0]), (height, scale[1])):
        exact = side * factor / multiple
        # a side that meets its bound exactly, but for rounding errors
        near = round(exact, 9)
        rounded = round(near)
        if mode == 'lower_bound' and rounded * multiple < bound:
            rounded = int(np.ceil(near))
        elif mode == 'upper_bound' and rounded * multiple > bound:
            rounded = int(np.floor(near))
        sides.append(max(rounded, 1) * multiple)
    return sides[0], sides[1]


@TRANSFORMS.register_module()
class DPTResize(BaseTransform):
    """Resize by DPT's rule: keep the aspect ratio, sides multiples of 32.

    Adds ``img_shape`` and ``scale_factor`` (width, height); ``ori_shape``
    stays, so that predictions come back to the original size. For the
    training of relative depth, ``mode='upper_bound'`` makes the longer side
    that of ``scale`` and ``mode='lower_bound'`` the shorter one, where a
    square ``mmseg.RandomCrop`` fits in.

    Args:
        scale (Tuple[int, int]): Nominal **width and height**. Defaults to
            (384, 384).
        mode (str): 'minimal', 'lower_bound' or 'upper_bound', see
            :func:`dpt_size`. Defaults to 'minimal'.
        multiple (int): What sides are multiples of. Defaults to 32.
        interpolation (str): Of the image: 'nearest', 'bilinear', 'bicubic'
            or 'area'. Defaults to 'bicubic'.
        depth (bool): Whether maps are resized, too, with nearest neighbour.
            False leaves the truth of tests at its size. Defaults to True.
        to_float32 (bool): Whether the image is resized as float32, in its
            range of 0 to 255. Nothing is rounded then, and bicubic values
            beyond the range stay, as where the authors of DPT resize images
            in [0, 1]. False keeps the type: uint8 is rounded and cut off,
            with a quarter of the memory. Defaults to False.
    """

    MODES = ('minimal', 'lower_bound', 'upper_bound')

    def __init__(
        self,
        scale: Tuple[int, int] = (384, 384),
        mode: str = 'minimal',
        multiple: int = 32,
        interpolation: str = 'bicubic',
        depth: bool = True,
        to_float32: bool = False,
    ) -> None:
        if mode not in self.MODES:
            raise UserValueError(
                f'DPTResize: mode={mode!r}, choose from {self.MODES}'
            )
        if len(scale) != 2 or min(scale) < 1 or multiple < 1:
            raise UserValueError(
                f'DPTResize: scale={tuple(scale)}, multiple={multiple}; use '
                '(width, height) and positive numbers'
            )
        if mode == 'upper_bound' and min(scale) < multiple:
            raise UserValueError(
                f'DPTResize: no multiple of {multiple} is below the upper '
                f'bound {tuple(scale)}'
            )
        self.scale = (int(scale[0]), int(scale[1]))
        self.mode = mode
        self.multiple = int(multiple)
        self.interpolation = interpolation
        self.depth = depth
        self.to_float32 = to_float32

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Resize image and, if asked for, every map of ``seg_fields``.

        Args:
            results (dict): With ``img``.

        Returns:
            dict: With the new ``img``, maps, ``img_shape`` and
            ``scale_factor``.
        """
        height, width = results['img'].shape[:2]
        size = dpt_size(width, height, self.scale, self.mode, self.multiple)
        image = results['img']
        if self.to_float32:
            image = image.astype(np.float32)
        results['img'] = mmcv.imresize(
            image, size, interpolation=self.interpolation
        )
        if self.depth:
            for key in results.get('seg_fields', []):
                results[key] = mmcv.imresize(
                    results[key], size, interpolation='nearest'
                )
        results['img_shape'] = results['img'].shape[:2]
        results['scale_factor'] = (size[0] / width, size[1] / height)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scale={self.scale}, mode={self.mode!r}, '
            f'multiple={self.multiple}, '
            f'interpolation={self.interpolation!r}, depth={self.depth}, '
            f'to_float32={self.to_float32})'
        )
