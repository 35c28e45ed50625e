"""Readers for the depth files of the zero-shot test sets."""

from typing import Any, Dict

import numpy as np
from mmengine import fileio

from mmdense.registry import TRANSFORMS

from .errors import DepthFileError
from .loading import LoadDepth

#: First number of a Sintel depth file; another one means another byte order.
DPT_TAG = np.float32(202021.25)


def _bytes(path: str, backend_args: Any) -> bytes:
    try:
        return fileio.get(path, backend_args)
    except OSError as error:
        raise DepthFileError(
            f'{path}: cannot be opened ({error}); check data_root'
        ) from error


@TRANSFORMS.register_module()
class LoadSintelDepth(LoadDepth):
    """Read a ``.dpt`` file of MPI Sintel.

    Little-endian: the float 202021.25, width and height as int32, then
    ``height * width`` floats in metres, row by row. Otherwise as
    ``mmdense.LoadDepth``.

    Args:
        depth_rescale_factor (float): Metres per stored unit. Defaults to
            1.0.
        **kwargs (Any): ``backend_args``, ``min_valid``; see ``LoadDepth``.
    """

    def __init__(
        self, depth_rescale_factor: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(depth_rescale_factor=depth_rescale_factor, **kwargs)

    def read_map(self, results: Dict[str, Any]) -> np.ndarray:
        """Stored values.

        Args:
            results (dict): With ``depth_map_path``.

        Returns:
            ndarray: float32 ``(H, W)``.

        Raises:
            DepthFileError: If the file is missing, cut, of another format or
                of another size than the image.
        """
        path = results['depth_map_path']
        content = _bytes(path, self.backend_args)
        if len(content) < 12 or np.frombuffer(content, '<f4', 1)[0] != DPT_TAG:
            raise DepthFileError(
                f'{path}: no Sintel depth file, its first number is not '
                f'{DPT_TAG}'
            )
        width, height = np.frombuffer(content, '<i4', 2, offset=4).tolist()
        if min(width, height) < 1 or len(content) != 12 + 4 * width * height:
            raise DepthFileError(
                f'{path}: {len(content)} bytes do not fit a map of '
                f'{(height, width)}; the file is cut'
            )
        raw = np.frombuffer(content, '<f4', offset=12).reshape(height, width)
        self._same_size(path, raw, results)
        return raw


@TRANSFORMS.register_module()
class LoadETH3DDepth(LoadDepth):
    """Read a depth map of ETH3D.

    ``height * width`` little-endian floats in metres, row by row, without a
    header and of the size of the image; infinity where nothing was measured.
    Has to come after the image is loaded and before it is resized. Otherwise
    as ``mmdense.LoadDepth``.

    Args:
        depth_rescale_factor (float): Metres per stored unit. Defaults to
            1.0.
        **kwargs (Any): ``backend_args``, ``min_valid``; see ``LoadDepth``.
    """

    def __init__(
        self, depth_rescale_factor: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(depth_rescale_factor=depth_rescale_factor, **kwargs)

    #: the check of units has no image
    loads_depth = False

    def read_map(self, results: Dict[str, Any]) -> np.ndarray:
        """Stored values.

        Args:
            results (dict): With ``depth_map_path`` and ``ori_shape``.

        Returns:
            ndarray: float32 ``(H, W)``, 0 for infinity.

        Raises:
            DepthFileError: If the file is missing, of another size than the
                image, or the image was not loaded before.
        """
        path = results['depth_map_path']
        if results.get('ori_shape') is None:
            raise DepthFileError(
                f'{path}: the file has no header; load the image before '
                'mmdense.LoadETH3DDepth'
            )
        height, width = results['ori_shape'][:2]
        content = _bytes(path, self.backend_args)
        if len(content) != 4 * height * width:
            raise DepthFileError(
                f'{path}: {len(content)} bytes instead of '
                f'{4 * height * width} for a map of {(height, width)} '
                f'({results.get("img_path")})'
            )
        raw = np.frombuffer(content, '<f4').reshape(height, width)
        # the way of this set to say "not measured", nothing to repair
        return np.where(np.isinf(raw), np.float32(0), raw)
