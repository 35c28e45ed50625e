"""Geometric and colour transforms of the depth recipes."""

from typing import Any, Dict, Optional, Sequence, Tuple

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms import CenterCrop as _CenterCrop
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import RandomRotate, Resize

from mmdense.registry import TRANSFORMS


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
            raise ValueError(
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
            ValueError: If the image has another size than demanded.
        """
        size = results['img'].shape[:2]
        wanted = self.size or size
        if size != wanted or self.rows[1] > size[0] or self.cols[1] > size[1]:
            raise ValueError(
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
            raise ValueError(
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
            raise ValueError(
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


@TRANSFORMS.register_module()
class RandomGammaBrightnessColor(BaseTransform):
    """Gamma, brightness and a factor per channel, as in BTS.

    Sources: [0] Lee et al., From Big to Small (BTS), 2019, section 4.3.

    Args:
        gamma (Tuple[float, float]): Range of the exponent. Defaults to
            (0.9, 1.1).
        brightness (Tuple[float, float]): Range of the factor. Defaults to
            (0.75, 1.25).
        color (Tuple[float, float]): Range of the factor of each channel.
            Defaults to (0.9, 1.1).
        prob (float): Probability. Defaults to 0.5.
        unit_range (bool): Whether gamma works on values in [0, 1]. False
            works on 0-255, where it mostly changes brightness, as
            Monocular-Depth-Estimation-Toolbox does. Defaults to True.
    """

    def __init__(
        self,
        gamma: Tuple[float, float] = (0.9, 1.1),
        brightness: Tuple[float, float] = (0.75, 1.25),
        color: Tuple[float, float] = (0.9, 1.1),
        prob: float = 0.5,
        unit_range: bool = True,
    ) -> None:
        for name, (low, high) in dict(
            gamma=gamma, brightness=brightness, color=color
        ).items():
            if not 0 < low <= high:
                raise ValueError(
                    f'RandomGammaBrightnessColor: {name}={(low, high)} is no '
                    'range of positive numbers'
                )
        self.gamma, self.brightness, self.color = gamma, brightness, color
        self.prob = prob
        self.unit_range = unit_range

    @cache_randomness
    def random_factors(self) -> Optional[Tuple[float, np.ndarray]]:
        """Draw gamma and the factor per channel; None to do nothing."""
        if np.random.rand() >= self.prob:
            return None
        gamma = np.random.uniform(*self.gamma)
        brightness = np.random.uniform(*self.brightness)
        return gamma, brightness * np.random.uniform(*self.color, size=3)

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Change the colours of ``img``.

        Args:
            results (dict): With ``img``, uint8 ``(H, W, 3)``.

        Returns:
            dict: With the new ``img``, uint8, clipped to 0-255.
        """
        factors = self.random_factors()
        if factors is None:
            return results
        gamma, channels = factors
        # one of 256 values per pixel and channel: tables beat pow
        top = 255.0 if self.unit_range else 1.0
        levels = (np.arange(256) / top) ** gamma
        table = levels[:, None] * channels * top
        table = np.clip(np.rint(table), 0, 255).astype(np.uint8)
        image = results['img']
        results['img'] = np.stack(
            [table[image[..., c], c] for c in range(3)], axis=-1
        )
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(gamma={self.gamma}, '
            f'brightness={self.brightness}, color={self.color}, '
            f'prob={self.prob}, unit_range={self.unit_range})'
        )


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
