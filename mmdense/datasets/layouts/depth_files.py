"""Open depth maps to see whether they are whole, and what they hold."""

import json
import math
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np
from PIL import Image

from .pictures import read_picture

_DPT_TAG = np.float32(202021.25)


@dataclass(frozen=True)
class DepthMap:
    """A depth map after it was read.

    Attributes:
        error (str): What is wrong with the file, '' if it is whole.
        size (Tuple[int, int]): Height and width.
        form (str): What is wrong with its form, as '8 bits' or 'RGB'; '' if
            it is a map of depth.
        median (float): Of the valid pixels, in metres; NaN without one.
    """

    error: str = ''
    size: Tuple[int, int] = (0, 0)
    form: str = ''
    median: float = math.nan


def read_depth(
    path: str, scale: float, bits: int = 16, camera: Optional[str] = None
) -> DepthMap:
    """Read a depth map completely.

    Args:
        path (str): PNG, TIFF and alike, or .npy; it is only read.
        scale (float): Metres per stored unit.
        bits (int): 8 allows maps of 8 bits. Defaults to 16.
        camera (str, optional): Camera file of Cityscapes, whose disparities
            the map holds. Defaults to None.

    Returns:
        DepthMap: With ``error`` if the file is missing, cut or no map.
    """
    if path.lower().endswith('.npy'):
        try:
            array = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            return DepthMap('missing')
        except Exception as error:  # numpy raises what it meets
            return DepthMap(f'cannot be read: {error}')
    else:
        picture = read_picture(path)
        if picture.error:
            return DepthMap(picture.error)
        with Image.open(path) as image:
            mode = image.mode
            array = np.asarray(image)
        if mode in ('1', 'P') or array.ndim != 2:
            return DepthMap(size=picture.size, form=mode)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 or array.dtype.kind not in 'iuf':
        return DepthMap(form=f'{array.shape} {array.dtype}')
    if array.dtype.itemsize == 1 and bits > 8:
        return DepthMap(size=array.shape, form='8 bits')
    metres = array.astype(np.float64) * scale
    if camera is not None:
        factor = camera_factor(camera)
        disparity = (array.astype(np.float64) - 1) / 256
        with np.errstate(divide='ignore', invalid='ignore'):
            metres = np.where(disparity > 0, factor / disparity, 0)
    return DepthMap(size=array.shape, median=median_of(metres))


def camera_factor(path: str) -> float:
    """Baseline in metres times focal length in pixels.

    Args:
        path (str): Camera file of Cityscapes.

    Returns:
        float: NaN if the file does not give them.
    """
    try:
        with open(path, encoding='utf-8') as file:
            camera = json.load(file)
        baseline = float(camera['extrinsic']['baseline'])
        focal = float(camera['intrinsic']['fx'])
    except (OSError, ValueError, KeyError, TypeError):
        return math.nan
    good = baseline > 0 and focal > 0
    return baseline * focal if good else math.nan


def read_dpt(path: str) -> DepthMap:
    """Read a depth file of Sintel.

    Args:
        path (str): A tag, width and height, then float32 metres.

    Returns:
        DepthMap: With ``error`` if the file is missing, cut or another.
    """
    try:
        with open(path, 'rb') as file:
            content = file.read()
    except OSError as error:
        return DepthMap(error.strerror or 'cannot be read')
    if len(content) < 12 or np.frombuffer(content, '<f4', 1)[0] != _DPT_TAG:
        return DepthMap('has not the tag of a .dpt file')
    width, height = (int(n) for n in np.frombuffer(content, '<i4', 2, 4))
    wanted = 12 + 4 * width * height
    if width < 1 or height < 1 or len(content) != wanted:
        return DepthMap(
            f'is of {len(content):,} bytes; {width}x{height} need {wanted:,}'
        )
    metres = np.frombuffer(content, '<f4', offset=12)
    return DepthMap(size=(height, width), median=median_of(metres))


def read_float32(path: str, size: Tuple[int, int]) -> DepthMap:
    """Read bare float32 numbers, a metre each, as in ETH3D.

    Args:
        path (str): The file; it is only read.
        size (Tuple[int, int]): Height and width of the image.

    Returns:
        DepthMap: With ``error`` if the file is missing or of another size.
    """
    try:
        metres = np.fromfile(path, '<f4')
    except OSError as error:
        return DepthMap(error.strerror or 'cannot be read')
    height, width = size
    if metres.size != height * width:
        return DepthMap(
            f'holds {metres.size:,} numbers for an image of {width}x{height}'
        )
    return DepthMap(size=size, median=median_of(metres))


def median_of(metres: np.ndarray) -> float:
    """Median of the valid pixels.

    Args:
        metres (np.ndarray): Depth, any shape.

    Returns:
        float: NaN if no pixel is positive and finite.
    """
    valid = metres[np.isfinite(metres) & (metres > 0)]
    return float(np.median(valid)) if valid.size else math.nan
