"""How depth is stored: 16-bit PNG, NPY, pictures and point clouds."""

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple, Union

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ...utils.errors import UserValueError
from ...visualization.canvas import beside
from ...visualization.depth import color_depth, depth_range
from ...visualization.depth_panel import depth_legend, depth_panel
from ...visualization.point_cloud import backproject, pinhole, write_ply

Limits = Optional[Tuple[float, float]]
# under which a PNG says how its values are meant
PNG_KEY = 'mmdense-depth'
MAX_STORED = 65535
METRIC, RELATIVE = 'metric', 'relative'


def values_of(kind: str) -> str:
    """What a kind of depth is called in the visualisation.

    Args:
        kind (str): ``'metric'`` or ``'relative'``.

    Returns:
        str: ``'depth'`` or ``'inverse'``.
    """
    return 'depth' if kind == METRIC else 'inverse'


def limits_of(depth: np.ndarray, kind: str) -> Tuple[float, float]:
    """Ends of the colours that suit one depth map.

    Args:
        depth (np.ndarray): ``(H, W)``.
        kind (str): ``'metric'`` or ``'relative'``.

    Returns:
        Tuple[float, float]: Its 2nd and 98th percentile.
    """
    return depth_range([depth], values=values_of(kind))


def paint(
    depth: np.ndarray,
    kind: str,
    limits: Limits = None,
    image: Optional[np.ndarray] = None,
    panel: bool = False,
) -> np.ndarray:
    """Colours of a depth map, near things warm.

    Args:
        depth (np.ndarray): ``(H, W)``, float32.
        kind (str): ``'metric'`` or ``'relative'``.
        limits (Tuple[float, float], optional): Values at the ends of the
            colours. Defaults to None, percentiles of the map.
        image (np.ndarray, optional): RGB ``(H, W, 3)``, uint8, for a panel.
            Defaults to None.
        panel (bool): Image and depth side by side, with a legend. Defaults
            to False.

    Returns:
        np.ndarray: RGB, uint8; ``(H, W, 3)`` without ``panel``.
    """
    values = values_of(kind)
    low, high = limits or limits_of(depth, kind)
    if panel and image is not None and kind == METRIC:
        return depth_panel(image, depth, low=low, high=high)
    colors = color_depth(depth, low, high, values=values)
    if panel and image is not None:
        # depth_panel would give inverse depth a range of its own
        legend = depth_legend(
            colors.shape[0], low, high, 'inverse', values=values
        )
        return beside(beside(image, colors), legend)
    return colors


def written(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file as a whole or, if interrupted, not at all.

    Args:
        path (Path): The file; its folder is made.
        write (Callable[[Path], None]): Writes to the path it is given, of
            the same extension.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.stem}.{os.getpid()}.part{path.suffix}')
    try:
        write(part)
        os.replace(part, path)
    finally:
        if part.exists():
            part.unlink()


def encode_depth(
    depth: np.ndarray, kind: str, scale: float
) -> Tuple[np.ndarray, Dict[str, Any]]:
    """Depth as 16-bit integers.

    Args:
        depth (np.ndarray): ``(H, W)``, float32.
        kind (str): ``'metric'`` or ``'relative'``.
        scale (float): Stored units a metre; of no use for relative depth,
            whose own range fills the 65,536 values.

    Returns:
        Tuple[np.ndarray, dict]: ``(H, W)``, uint16, and how to read it:
        metric: ``scale`` (metres are values / scale, 0 is no depth) and
        ``clipped``, pixels too far to be stored; relative: ``min`` and
        ``max`` (values v stand for min + v / 65535 * (max - min)).

    Raises:
        ValueError: If a value is not finite.
    """
    if not np.isfinite(depth).all():
        raise ValueError('depth that is not finite cannot be stored')
    wide = depth.astype(np.float64)
    if kind == METRIC:
        stored = np.rint(wide * scale)
        clipped = int((stored > MAX_STORED).sum())
        meta: Dict[str, Any] = dict(kind=kind, unit='metre', scale=scale)
        meta['clipped'] = clipped
        stored = stored.clip(0, MAX_STORED)
        return stored.astype(np.uint16), meta
    low, high = float(wide.min()), float(wide.max())
    span = high - low
    share = (wide - low) / span if span else np.zeros_like(wide)
    meta = dict(kind=kind, unit=None, min=low, max=high)
    return np.rint(share * MAX_STORED).astype(np.uint16), meta


def decode_depth(stored: np.ndarray, meta: Dict[str, Any]) -> np.ndarray:
    """What :func:`encode_depth` stored.

    Args:
        stored (np.ndarray): ``(H, W)``, uint16.
        meta (dict): From :func:`encode_depth`.

    Returns:
        np.ndarray: ``(H, W)``, float32.
    """
    wide = stored.astype(np.float64)
    if meta['kind'] == METRIC:
        return (wide / meta['scale']).astype(np.float32)
    span = meta['max'] - meta['min']
    return (meta['min'] + wide / MAX_STORED * span).astype(np.float32)


def write_depth_png(
    path: Path, depth: np.ndarray, kind: str, scale: float = 1000
) -> Dict[str, Any]:
    """Write a 16-bit PNG that says itself how to read it.

    Args:
        path (Path): The file.
        depth (np.ndarray): ``(H, W)``, float32.
        kind (str): ``'metric'`` or ``'relative'``.
        scale (float): See :func:`encode_depth`. Defaults to 1000,
            millimetres.

    Returns:
        dict: From :func:`encode_depth`; it is stored in the file too, as
        text under ``mmdense-depth``.
    """
    stored, meta = encode_depth(depth, kind, scale)
    text = PngInfo()
    text.add_text(PNG_KEY, json.dumps(meta))
    image = Image.fromarray(stored)
    written(path, lambda part: image.save(part, pnginfo=text))
    return meta


def write_npy(path: Path, depth: np.ndarray) -> None:
    """Write a depth map as it is.

    Args:
        path (Path): The file, ``.npy``.
        depth (np.ndarray): ``(H, W)``, float32.
    """
    written(path, lambda part: np.save(part, depth))


def read_depth(path: Union[str, Path]) -> Tuple[np.ndarray, Dict[str, Any]]:
    """Read a depth map that was written here.

    Args:
        path (str or Path): ``.png`` or ``.npy``.

    Returns:
        Tuple[np.ndarray, dict]: ``(H, W)``, float32, and how it was stored,
        empty for ``.npy``.

    Raises:
        UserValueError: If it is no such file.
    """
    path = Path(path)
    try:
        if path.suffix == '.npy':
            return np.load(path, allow_pickle=False), {}
        with Image.open(path) as image:
            meta = json.loads(image.info[PNG_KEY])
            return decode_depth(np.asarray(image), meta), meta
    except (OSError, KeyError, ValueError) as error:
        raise UserValueError(
            f'{path} is no depth map that mmdense wrote: {error!r}.'
        ) from error


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture; JPEG in good quality.

    Args:
        path (Path): The file.
        picture (np.ndarray): RGB ``(H, W, 3)``, uint8.
    """
    image = Image.fromarray(picture)
    written(path, lambda part: image.save(part, quality=92))


def camera_of(
    size: Tuple[int, int],
    focal: Optional[float] = None,
    fov: Optional[float] = None,
) -> np.ndarray:
    """Camera whose centre is the middle of the image.

    Args:
        size (Tuple[int, int]): Height and width of the image.
        focal (float, optional): Focal length in pixels. Defaults to None.
        fov (float, optional): Horizontal field of view in degrees. Defaults
            to None.

    Returns:
        np.ndarray: Intrinsic matrix ``(3, 3)``.

    Raises:
        UserValueError: If neither or both are given, or one is impossible.
    """
    if (focal is None) == (fov is None):
        raise UserValueError(
            'A point cloud needs the camera: give either its focal length in '
            'pixels (--focal) or its horizontal field of view in degrees '
            '(--fov).'
        )
    if fov is not None:
        return pinhole(size, fov)
    if focal is None or not focal > 0:
        raise UserValueError(f'focal={focal}: give pixels, above 0.')
    camera = pinhole(size)
    camera[0, 0] = camera[1, 1] = focal
    return camera


def write_cloud(
    path: Path, depth: np.ndarray, image: np.ndarray, camera: np.ndarray
) -> int:
    """Write a coloured point cloud, in metres and camera coordinates.

    Args:
        path (Path): The file, ``.ply``.
        depth (np.ndarray): ``(H, W)`` in metres; pixels of 0 give no point.
        image (np.ndarray): RGB ``(H, W, 3)``, uint8.
        camera (np.ndarray): Intrinsic matrix ``(3, 3)``.

    Returns:
        int: Number of points.
    """
    points = backproject(depth, camera)
    colors = image[depth > 0]
    write_ply(path, points, colors)
    return len(points)
