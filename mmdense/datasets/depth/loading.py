"""Transforms that read images and depth maps."""

import io
import json
from typing import Any, Dict, Optional, Tuple

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmseg.datasets.transforms import LoadDepthAnnotation
from mmseg.utils.io import datafrombytes
from PIL import Image

from mmdense.registry import TRANSFORMS
from mmdense.utils.errors import UserValueError

from .errors import DepthFileError, first_line

_PNG, _PNG_END = b'\x89PNG', b'IEND'
_JPEG, _JPEG_END = b'\xff\xd8', b'\xff\xd9'


def clean_depth(depth: np.ndarray) -> np.ndarray:
    """Depth with one spelling of "no measurement".

    Args:
        depth (ndarray): ``(H, W)``, any unit.

    Returns:
        ndarray: float32; NaN, infinite and negative values are 0.
    """
    depth = depth.astype(np.float32)
    depth[~np.isfinite(depth) | (depth < 0)] = 0
    return depth


def add_depth(
    results: Dict[str, Any],
    depth: np.ndarray,
    min_valid: int = 1,
    raw: Optional[np.ndarray] = None,
) -> Dict[str, Any]:
    """Put a depth map into the results.

    Args:
        results (dict): Of the pipeline.
        depth (ndarray): ``(H, W)`` in metres.
        min_valid (int): See :class:`LoadDepth`. Defaults to 1.
        raw (ndarray, optional): The values as they were stored, for the
            count of repaired ones. None for ``depth``. Defaults to None.

    Returns:
        dict: With ``gt_depth_map`` and ``depth_repaired``, the number of
        NaN, infinite and negative values.

    Raises:
        DepthFileError: If fewer pixels are valid, outside of test mode.
    """
    repaired = 0
    raw = depth if raw is None else raw
    if raw.dtype.kind != 'u':
        repaired = int((~np.isfinite(raw) | (raw < 0)).sum())
    depth = clean_depth(depth)
    if min_valid and not results.get('test_mode', False):
        valid = int(np.count_nonzero(depth))
        if valid < min_valid:
            path = results.get('depth_map_path') or results.get('img_path')
            raise DepthFileError(
                f'{path}: {valid} of {depth.size} pixels have a valid depth, '
                f'fewer than min_valid={min_valid}'
            )
    results['gt_depth_map'] = depth
    results['depth_repaired'] = repaired
    fields = results.setdefault('seg_fields', [])
    if 'gt_depth_map' not in fields:
        fields.append('gt_depth_map')
    return results


def _read(path: str, what: str, backend_args: Any) -> bytes:
    """Bytes of a file that is whole, as far as its end tells."""
    try:
        content = fileio.get(path, backend_args)
    except OSError as error:
        raise DepthFileError(
            f'{path}: cannot be opened ({error}); check data_root, {what}'
        ) from error
    if not content:
        raise DepthFileError(f'{path}: empty file (0 bytes)')
    for start, end in ((_PNG, _PNG_END), (_JPEG, _JPEG_END)):
        # OpenCV fills up cut files without a word; where more than an end
        # mark follows the picture, Pillow finds out
        if content.startswith(start) and content.find(end, -64) < 0:
            _decode_all(path, content)
    return content


def _decode_all(path: str, content: bytes) -> None:
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except Exception as error:  # decoders raise what they like
        raise DepthFileError(
            f'{path}: truncated or broken file ({len(content)} bytes, '
            f'{first_line(error)})'
        ) from error


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """``LoadImageFromFile`` whose errors name the file.

    A truncated JPEG or PNG is an error, too; the stock loader fills it up
    in grey. Adds ``img`` (uint8 ``(H, W, 3)``, BGR), ``img_shape`` and
    ``ori_shape``.

    Args:
        **kwargs (Any): See mmcv.
    """

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Add the image.

        Args:
            results (dict): With ``img_path``.

        Returns:
            dict: With ``img``.

        Raises:
            DepthFileError: If the file is missing or broken.
        """
        path = results['img_path']
        content = _read(path, 'img_path and img_suffix', self.backend_args)
        try:
            image = mmcv.imfrombytes(
                content, flag=self.color_type, backend=self.imdecode_backend
            )
        except Exception as error:  # decoders raise what they like
            raise DepthFileError(
                f'{path}: broken image ({first_line(error)})'
            ) from error
        if image is None:
            raise DepthFileError(
                f'{path}: {len(content)} bytes that are no image'
            )
        if self.to_float32:
            image = image.astype(np.float32)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


# The stock class fails on integer maps, and takes NaN and colour PNGs as is.
@TRANSFORMS.register_module()
class LoadDepth(LoadDepthAnnotation):
    """Read a depth map from a 16-bit PNG, TIFF, NPY or similar.

    Needs ``depth_map_path``; adds ``gt_depth_map``, float32 ``(H, W)`` in
    metres with 0 for "no measurement" (also for NaN, infinite and negative
    values), and ``depth_rescale_factor``. Where the results have
    ``mask_path``, an 8-bit picture, pixels of value 0 there are invalid.

    Args:
        depth_rescale_factor (float): Metres per stored unit: 1e-3 for
            millimetres, 1/256 for KITTI. Defaults to 1e-3.
        decode_backend (str): 'cv2', 'numpy' (.npy) or 'auto', which takes
            'numpy' for names in .npy. Defaults to 'auto'.
        backend_args (dict, optional): File backend of mmengine. Defaults to
            None.
        stored (str): 'depth', or 'inverse' for files of inverse depth or
            disparity x, read as 1 / (depth_rescale_factor * x). Defaults to
            'depth'.
        min_valid (int): A map with fewer valid pixels is an error, but not
            in test mode, where metrics count it. Defaults to 1.
        allow_8bit (bool): Accept 8-bit maps; some sets of relative depth
            have no others. Defaults to False.
    """

    #: what the check of units looks for
    loads_depth = True

    def __init__(
        self,
        depth_rescale_factor: float = 1e-3,
        decode_backend: str = 'auto',
        stored: str = 'depth',
        min_valid: int = 1,
        allow_8bit: bool = False,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        if stored not in ('depth', 'inverse'):
            raise UserValueError(
                f"{name}: stored={stored!r}, choose 'depth' or 'inverse'"
            )
        if not depth_rescale_factor > 0:
            raise UserValueError(
                f'{name}: depth_rescale_factor={depth_rescale_factor}, use a '
                'positive number'
            )
        super().__init__(
            decode_backend=decode_backend,
            depth_rescale_factor=depth_rescale_factor,
            **kwargs,
        )
        self.stored = stored
        self.min_valid = min_valid
        self.allow_8bit = allow_8bit

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Add the depth map.

        Args:
            results (dict): With ``depth_map_path``.

        Returns:
            dict: With ``gt_depth_map``.

        Raises:
            DepthFileError: If the file is missing, broken, no depth map, or
                of another size than the untouched image.
        """
        raw = self.read_map(results)
        results['depth_rescale_factor'] = self.depth_rescale_factor
        depth = self.to_depth(raw, results)
        if results.get('mask_path'):
            depth = np.where(self._mask(results, raw.shape), depth, 0)
        return add_depth(results, depth, self.min_valid, raw)

    def to_depth(
        self,
        raw: np.ndarray,
        results: Dict[str, Any],  # noqa: ARG002
    ) -> np.ndarray:
        """Depth of stored values.

        Args:
            raw (ndarray): ``(H, W)``, as stored.
            results (dict): Of the pipeline.

        Returns:
            ndarray: ``(H, W)`` in metres, possibly with NaN and negative
            values.
        """
        values = raw.astype(np.float32) * np.float32(self.depth_rescale_factor)
        if self.stored == 'inverse':
            return _inverse(values, 1.0)
        return values

    def read_map(self, results: Dict[str, Any]) -> np.ndarray:
        """Stored values.

        Args:
            results (dict): With ``depth_map_path``.

        Returns:
            ndarray: ``(H, W)``.

        Raises:
            DepthFileError: See :meth:`transform`.
        """
        path = results['depth_map_path']
        raw = self._decode(path)
        if raw.ndim == 3 and raw.shape[2] == 1:
            raw = raw[..., 0]
        small = raw.dtype == np.uint8 and not self.allow_8bit
        if raw.ndim != 2 or raw.dtype.kind not in 'iuf' or small:
            raise DepthFileError(
                f'{path}: expected one channel of 16-bit or float depth, got '
                f'shape {raw.shape} of {raw.dtype}; this looks like a picture'
                + (
                    ' (allow_8bit=True of mmdense.LoadDepth takes 8-bit maps)'
                    if raw.ndim == 2 and small
                    else ''
                )
            )
        self._same_size(path, raw, results)
        return raw

    @staticmethod
    def _same_size(
        path: str, raw: np.ndarray, results: Dict[str, Any]
    ) -> None:
        size = results.get('ori_shape')
        if size is not None and tuple(size) != raw.shape:
            raise DepthFileError(
                f'{path}: depth map {raw.shape} and image {tuple(size)} '
                f'({results.get("img_path")}) differ in size'
            )

    def _decode(self, path: str) -> np.ndarray:
        backend = self.decode_backend
        if backend == 'auto':
            backend = 'numpy' if path.lower().endswith('.npy') else 'cv2'
        content = _read(
            path, 'depth_map_path and depth_map_suffix', self.backend_args
        )
        try:
            raw = datafrombytes(content, backend=backend)
        except Exception as error:  # decoders raise what they like
            raise DepthFileError(
                f'{path}: broken file ({first_line(error)})'
            ) from error
        if raw is None:
            raise DepthFileError(
                f'{path}: {backend} cannot decode this file '
                f'({len(content)} bytes)'
            )
        return raw

    def _mask(
        self, results: Dict[str, Any], shape: Tuple[int, ...]
    ) -> np.ndarray:
        path = results['mask_path']
        mask = self._decode(path)
        if mask.shape != shape:
            raise DepthFileError(
                f'{path}: mask {mask.shape} and depth map {shape} '
                f'({results["depth_map_path"]}) differ in size'
            )
        return mask != 0


@TRANSFORMS.register_module()
class LoadDisparity(LoadDepth):
    """Read Cityscapes' disparity as depth in metres.

    Needs ``depth_map_path`` (16-bit PNG p, disparity (p - 1) / 256 pixels
    where p > 0) and ``camera_path`` (JSON with ``extrinsic.baseline`` in
    metres and ``intrinsic.fx`` in pixels); depth is baseline * fx /
    disparity. Adds ``gt_depth_map`` and ``focal`` (fx). Pixels without
    disparity, or with disparity 0, are invalid.

    Args:
        **kwargs (Any): ``backend_args``, ``min_valid``; see
            :class:`LoadDepth`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(depth_rescale_factor=1 / 256, **kwargs)

    def to_depth(self, raw: np.ndarray, results: Dict[str, Any]) -> np.ndarray:
        """Depth of stored values.

        Args:
            raw (ndarray): ``(H, W)``, as stored.
            results (dict): With ``camera_path``.

        Returns:
            ndarray: ``(H, W)`` in metres, 0 without disparity.

        Raises:
            DepthFileError: If the camera file is missing or incomplete.
        """
        baseline, focal = self._camera(results['camera_path'])
        results['focal'] = focal
        values = raw.astype(np.float32) - 1
        return _inverse(
            values * np.float32(self.depth_rescale_factor), baseline * focal
        )

    def _camera(self, path: str) -> Tuple[float, float]:
        content = _read(path, 'camera_path', self.backend_args)
        try:
            camera = json.loads(content)
            baseline = float(camera['extrinsic']['baseline'])
            focal = float(camera['intrinsic']['fx'])
        except (ValueError, KeyError, TypeError) as error:
            raise DepthFileError(
                f'{path}: no camera file with extrinsic.baseline and '
                f'intrinsic.fx ({type(error).__name__}: {error})'
            ) from error
        if not (baseline > 0 and focal > 0):
            raise DepthFileError(
                f'{path}: baseline {baseline} and fx {focal} have to be '
                'positive'
            )
        return baseline, focal


def _inverse(values: np.ndarray, numerator: float) -> np.ndarray:
    """``numerator / values`` where they are positive, else 0; float32."""
    positive = values > 0
    safe = np.where(positive, values, 1)
    return np.where(positive, np.float32(numerator) / safe, 0).astype(
        np.float32
    )
