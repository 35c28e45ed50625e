"""Transforms that read depth maps."""

from typing import Any, Dict

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from mmseg.datasets.transforms import LoadDepthAnnotation
from mmseg.utils.io import datafrombytes

from mmdense.registry import TRANSFORMS
from mmdense.utils.errors import UserError


class MissingDepthError(UserError, FileNotFoundError):
    """A folder or file of a depth data set that is not there."""


class DepthFileError(UserError, RuntimeError):
    """A file of a depth data set is missing or cannot be read."""


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


def _add(results: Dict[str, Any], depth: np.ndarray) -> Dict[str, Any]:
    results['gt_depth_map'] = depth
    fields = results.setdefault('seg_fields', [])
    if 'gt_depth_map' not in fields:
        fields.append('gt_depth_map')
    return results


# The stock class fails on integer maps, and takes NaN and colour PNGs as is.
@TRANSFORMS.register_module()
class LoadDepth(LoadDepthAnnotation):
    """Read a depth map from a 16-bit PNG, TIFF, NPY or similar.

    Needs ``depth_map_path``; adds ``gt_depth_map``, float32 ``(H, W)`` in
    metres with 0 for "no measurement" (also for NaN, infinite and negative
    values), and ``depth_rescale_factor``.

    Args:
        depth_rescale_factor (float): Metres per stored unit: 1e-3 for
            millimetres, 1/256 for KITTI. Defaults to 1e-3.
        decode_backend (str): 'cv2' or 'numpy' (.npy). Defaults to 'cv2'.
        backend_args (dict, optional): File backend of mmengine. Defaults to
            None.
    """

    def __init__(
        self,
        depth_rescale_factor: float = 1e-3,
        decode_backend: str = 'cv2',
        **kwargs: Any,
    ) -> None:
        super().__init__(
            decode_backend=decode_backend,
            depth_rescale_factor=depth_rescale_factor,
            **kwargs,
        )

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
        path = results['depth_map_path']
        try:
            content = fileio.get(path, self.backend_args)
        except OSError as error:
            raise DepthFileError(
                f'{path}: cannot be opened ({error}); check depth_map_path '
                'in data_prefix and depth_map_suffix'
            ) from error
        try:
            raw = datafrombytes(content, backend=self.decode_backend)
        except Exception as error:
            raise DepthFileError(f'{path}: broken file ({error})') from error
        if raw is None:
            raise DepthFileError(
                f'{path}: {self.decode_backend} cannot decode this file'
            )
        if raw.ndim != 2 or raw.dtype == np.uint8:
            raise DepthFileError(
                f'{path}: expected one channel of 16-bit or float depth, got '
                f'shape {raw.shape} of {raw.dtype}; this looks like a picture'
            )
        size = results.get('ori_shape')
        if size is not None and tuple(size) != raw.shape:
            raise DepthFileError(
                f'{path}: depth map {raw.shape} and image {tuple(size)} '
                f'({results.get("img_path")}) differ in size'
            )
        results['depth_rescale_factor'] = self.depth_rescale_factor
        depth = clean_depth(raw) * np.float32(self.depth_rescale_factor)
        return _add(results, depth)


@TRANSFORMS.register_module()
class LoadDepthH5(BaseTransform):
    """Read image and depth from one HDF5 file of the NYU set.

    Needs ``img_path``; adds ``img`` (uint8 ``(H, W, 3)``, BGR as all stock
    loaders give), ``gt_depth_map`` (float32 ``(H, W)`` in metres, 0 for "no
    measurement"), ``img_shape`` and ``ori_shape``. The file holds ``rgb``
    ``(3, H, W)`` uint8 and ``depth`` ``(H, W)`` float.
    """

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Add image and depth.

        Args:
            results (dict): With ``img_path``.

        Returns:
            dict: With ``img`` and ``gt_depth_map``.

        Raises:
            ImportError: If h5py is not installed.
            DepthFileError: If the file is missing, broken or has another
                layout.
        """
        h5py = import_h5py()
        path = results['img_path']
        try:
            with h5py.File(path, 'r') as file:
                missing = {'rgb', 'depth'} - set(file)
                if missing:
                    raise DepthFileError(
                        f'{path}: no {sorted(missing)} in this file, only '
                        f'{sorted(file)}'
                    )
                rgb, depth = file['rgb'][()], file['depth'][()]
        except OSError as error:
            raise DepthFileError(
                f'{path}: missing or broken HDF5 file ({error})'
            ) from error
        if rgb.dtype != np.uint8 or rgb.shape != (3, *depth.shape):
            raise DepthFileError(
                f'{path}: expected rgb (3, H, W) uint8 and depth (H, W), got '
                f'{rgb.shape} {rgb.dtype} and {depth.shape}'
            )
        # (3, H, W) RGB -> (H, W, 3) BGR
        image = np.ascontiguousarray(rgb[::-1].transpose(1, 2, 0))
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return _add(results, clean_depth(depth))

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


def import_h5py() -> Any:
    """The h5py package.

    Returns:
        module: h5py.

    Raises:
        ImportError: With the command to run, if it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            'NYU HDF5 files need h5py, which is not installed. Run: pip '
            "install 'mmdense[depth]'"
        ) from error
    return h5py
