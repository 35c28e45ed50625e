"""Depth maps as point clouds."""

import math
import os
from typing import Any, Optional, Tuple, Union

import numpy as np

from ..utils.errors import UserValueError
from .depth import as_map, valid_depth

# points that are written at a time
_CHUNK = 1 << 18


def pinhole(size: Tuple[int, int], fov: float = 60.0) -> np.ndarray:
    """Camera matrix of an image whose camera is unknown.

    Args:
        size (Tuple[int, int]): Height and width of the image.
        fov (float): Horizontal field of view in degrees, in (0, 180).
            Defaults to 60.

    Returns:
        np.ndarray: ``(3, 3)``, float64, the centre in the middle.

    Raises:
        UserValueError: If there is no such camera.
    """
    if not 0 < fov < 180:
        raise UserValueError(f'fov={fov}: give degrees between 0 and 180.')
    height, width = size
    focal = width / 2 / math.tan(math.radians(fov) / 2)
    cx, cy = (width - 1) / 2, (height - 1) / 2
    return np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1.0]])


def _camera(intrinsics: Any) -> Tuple[float, float, float, float]:
    """Focal lengths and centre from a matrix or four numbers."""
    array = np.asarray(intrinsics, np.float64)
    if array.shape == (3, 3):
        skew = (array[0, 1], array[1, 0], *array[2])
        if skew != (0, 0, 0, 0, 1):
            raise UserValueError(
                f'intrinsics {array.tolist()}: only matrices of the form '
                '[[fx, 0, cx], [0, fy, cy], [0, 0, 1]] are understood.'
            )
        array = np.array([array[0, 0], array[1, 1], array[0, 2], array[1, 2]])
    if array.shape != (4,):
        raise UserValueError(
            f'intrinsics of shape {array.shape}: give (fx, fy, cx, cy) or a '
            '3x3 matrix, in pixels of the depth map.'
        )
    fx, fy, cx, cy = (float(v) for v in array)
    if not (fx > 0 and fy > 0 and np.isfinite(array).all()):
        raise UserValueError(
            f'intrinsics: focal lengths {fx}, {fy} pixels; they have to be '
            'above 0.'
        )
    return fx, fy, cx, cy


def backproject(depth: Any, intrinsics: Any) -> np.ndarray:
    """Points in the space of the camera.

    x points right, y down, z into the scene. The centre of the pixel in
    column u and row v is the point (u, v).

    Args:
        depth (Any): Metres along z, ``(H, W)`` or ``(1, H, W)``, array or
            tensor; values <= 0 and non-finite ones give no point.
        intrinsics (Any): (fx, fy, cx, cy) or a 3x3 matrix, in pixels of this
            map.

    Returns:
        np.ndarray: float32 ``(N, 3)``, in metres, row by row. Their colours
        are ``image[valid_depth(depth)]``.

    Raises:
        UserValueError: If the camera or the shape is wrong.
    """
    z = as_map(depth)
    fx, fy, cx, cy = _camera(intrinsics)
    rows, cols = np.nonzero(valid_depth(z))
    z = z[rows, cols].astype(np.float64)
    points = np.stack(((cols - cx) * z / fx, (rows - cy) * z / fy, z), axis=1)
    return points.astype(np.float32)


def write_ply(
    path: Union[str, 'os.PathLike[str]'],
    points: np.ndarray,
    colors: Optional[np.ndarray] = None,
) -> None:
    """Write points as a binary little-endian PLY file.

    The file appears under its name once it is complete.

    Args:
        path (str or Path): The file; its folder is made.
        points (np.ndarray): ``(N, 3)``; stored as float32.
        colors (np.ndarray, optional): RGB ``(N, 3)``, uint8. Defaults to
            None.

    Raises:
        UserValueError: If the shapes or types do not fit.
    """
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 3:
        raise UserValueError(f'points of shape {points.shape}, not (N, 3).')
    fields = [(name, '<f4') for name in 'xyz']
    if colors is not None:
        colors = np.asarray(colors)
        if colors.shape != points.shape or colors.dtype != np.uint8:
            raise UserValueError(
                f'colors {colors.shape} {colors.dtype} for '
                f'{len(points):,} points: give uint8 {points.shape}.'
            )
        fields += [(name, 'u1') for name in ('red', 'green', 'blue')]
    kinds = {'<f4': 'float', 'u1': 'uchar'}
    header = [
        *('ply', 'format binary_little_endian 1.0'),
        f'element vertex {len(points)}',
        *(f'property {kinds[kind]} {name}' for name, kind in fields),
        'end_header\n',
    ]
    target = os.fspath(path)
    os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
    part = f'{target}.part'
    with open(part, 'wb') as file:
        file.write('\n'.join(header).encode('ascii'))
        for start in range(0, len(points), _CHUNK):
            some = points[start : start + _CHUNK]
            rows = np.empty(len(some), fields)
            for i, name in enumerate('xyz'):
                rows[name] = some[:, i]
            if colors is not None:
                paint = colors[start : start + _CHUNK]
                for i, name in enumerate(('red', 'green', 'blue')):
                    rows[name] = paint[:, i]
            file.write(rows.tobytes())
    os.replace(part, target)
