"""Transforms that read image and depth from HDF5 files."""

from typing import Any, Dict, Optional, Tuple

import numpy as np
from mmcv.transforms import BaseTransform
from torch.utils.data import get_worker_info

from mmdense.registry import TRANSFORMS
from mmdense.utils.errors import UserValueError

from .errors import DepthFileError
from .loading import add_depth


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


def _add_pair(
    results: Dict[str, Any],
    rgb: np.ndarray,
    depth: np.ndarray,
    min_valid: int,
) -> Dict[str, Any]:
    """Put ``(3, H, W)`` RGB and ``(H, W)`` depth into the results."""
    path = results['img_path']
    if rgb.dtype != np.uint8 or rgb.shape != (3, *depth.shape):
        raise DepthFileError(
            f'{path}: expected rgb (3, H, W) uint8 and depth (H, W), got '
            f'{rgb.shape} {rgb.dtype} and {depth.shape}'
        )
    # (3, H, W) RGB -> (H, W, 3) BGR
    image = np.ascontiguousarray(rgb[::-1].transpose(1, 2, 0))
    results['img'] = image
    results['img_shape'] = results['ori_shape'] = image.shape[:2]
    return add_depth(results, depth, min_valid)


@TRANSFORMS.register_module()
class LoadDepthH5(BaseTransform):
    """Read image and depth from one HDF5 file of the NYU set.

    Needs ``img_path``; adds ``img`` (uint8 ``(H, W, 3)``, BGR as all stock
    loaders give), ``gt_depth_map`` (float32 ``(H, W)`` in metres, 0 for "no
    measurement"), ``img_shape`` and ``ori_shape``. The file holds ``rgb``
    ``(3, H, W)`` uint8 and ``depth`` ``(H, W)`` float.

    Args:
        min_valid (int): A map with fewer valid pixels is an error, but not
            in test mode. Defaults to 1.
    """

    loads_depth = True

    def __init__(self, min_valid: int = 1) -> None:
        self.min_valid = min_valid

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
        except (OSError, RuntimeError, KeyError) as error:
            if isinstance(error, DepthFileError):
                raise
            raise DepthFileError(
                f'{path}: missing or broken HDF5 file ({error})'
            ) from error
        return _add_pair(results, rgb, depth, self.min_valid)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(min_valid={self.min_valid})'


@TRANSFORMS.register_module()
class LoadDepthMat(BaseTransform):
    """Read image and depth from the labelled NYU Depth V2 file.

    Needs ``mat_path`` and ``mat_index``; adds the same as
    :class:`LoadDepthH5`. The file (MATLAB 7.3, so HDF5) holds ``images``
    ``(N, 3, W, H)`` uint8 and depth ``(N, W, H)`` in metres. Only the pixels
    of the sample are read. Every worker keeps one open handle; the main
    process keeps none, since it must not be inherited by workers.

    Args:
        depth_key (str): 'depths' (holes filled in) or 'rawDepths'. Defaults
            to 'depths'.
        min_valid (int): A map with fewer valid pixels is an error, but not
            in test mode. Defaults to 1.
    """

    loads_depth = True

    def __init__(self, depth_key: str = 'depths', min_valid: int = 1) -> None:
        if depth_key not in ('depths', 'rawDepths'):
            raise UserValueError(
                f'LoadDepthMat: depth_key={depth_key!r}, choose '
                "'depths' or 'rawDepths'"
            )
        self.depth_key = depth_key
        self.min_valid = min_valid
        self._open: Optional[Tuple[str, Any]] = None

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Add image and depth.

        Args:
            results (dict): With ``mat_path``, ``mat_index`` and
                ``img_path``.

        Returns:
            dict: With ``img`` and ``gt_depth_map``.

        Raises:
            ImportError: If h5py is not installed.
            DepthFileError: If the file is missing, broken or has another
                layout.
        """
        h5py = import_h5py()
        path, index = results['mat_path'], results['mat_index']
        try:
            if get_worker_info() is None:
                with h5py.File(path, 'r') as file:
                    rgb, depth = self._read(file, path, index)
            else:
                if self._open is None or self._open[0] != path:
                    self._open = (path, h5py.File(path, 'r'))
                rgb, depth = self._read(self._open[1], path, index)
        except (OSError, RuntimeError, KeyError) as error:
            if isinstance(error, DepthFileError):
                raise
            raise DepthFileError(
                f'{path}: image {index} cannot be read ({error}); the file '
                'is missing or truncated'
            ) from error
        return _add_pair(results, rgb, depth, self.min_valid)

    def _read(
        self, file: Any, path: str, index: int
    ) -> Tuple[np.ndarray, np.ndarray]:
        missing = {'images', self.depth_key} - set(file)
        if missing:
            raise DepthFileError(
                f'{path}: no {sorted(missing)} in this file, only '
                f'{sorted(file)}'
            )
        images, depths = file['images'], file[self.depth_key]
        if index >= min(len(images), len(depths)):
            raise DepthFileError(
                f'{path}: has {min(len(images), len(depths))} images, but '
                f'image {index} is wanted; check the split file'
            )
        # MATLAB stores columns first
        return images[index].transpose(0, 2, 1), depths[index].T

    def __getstate__(self) -> Dict[str, Any]:
        # handles do not travel to other processes
        return {**self.__dict__, '_open': None}

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(depth_key={self.depth_key!r}, '
            f'min_valid={self.min_valid})'
        )
