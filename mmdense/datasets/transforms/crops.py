"""Geometry of a view: which part of the source it shows, and cutting it."""

import math
import random
from typing import NamedTuple, Sequence, Tuple

import numpy as np
import torch
from torch.nn import functional as F

INTERPOLATIONS = ('bicubic', 'bilinear')
_TRIES = 10


class CropBox(NamedTuple):
    """Part of an image, in whole pixels.

    Attributes:
        left (int): First column.
        top (int): First row.
        width (int): Columns, at least 1.
        height (int): Rows, at least 1.
    """

    left: int
    top: int
    width: int
    height: int


def sample_crop(
    width: int,
    height: int,
    scale: Tuple[float, float] = (0.08, 1.0),
    ratio: Tuple[float, float] = (3 / 4, 4 / 3),
) -> CropBox:
    """Draw the box of a random resized crop from Python's generator.

    The algorithm of torchvision's ``RandomResizedCrop.get_params``: the
    share of the area is uniform, the aspect ratio log-uniform; when ten
    draws do not fit into the image, the largest centred box with an
    admissible ratio is taken.

    Args:
        width (int): Width of the image.
        height (int): Height of the image.
        scale (Tuple[float, float]): Least and largest share of the area.
            Defaults to (0.08, 1.0).
        ratio (Tuple[float, float]): Least and largest width / height.
            Defaults to (3 / 4, 4 / 3).

    Returns:
        CropBox: The box, inside the image.
    """
    area = width * height
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(_TRIES):
        target = area * random.uniform(scale[0], scale[1])
        aspect = math.exp(random.uniform(low, high))
        w = round(math.sqrt(target * aspect))
        h = round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            left = random.randint(0, width - w)
            top = random.randint(0, height - h)
            return CropBox(left, top, w, h)
    w, h = width, height
    if width / height < ratio[0]:
        h = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        w = max(1, round(height * ratio[1]))
    return CropBox((width - w) // 2, (height - h) // 2, w, h)


def choose_reduction(
    boxes: Sequence[CropBox], sizes: Sequence[Tuple[int, int]]
) -> int:
    """How far a JPEG may be reduced while it is decoded.

    Args:
        boxes (Sequence[CropBox]): Crops in pixels of the full image.
        sizes (Sequence[Tuple[int, int]]): Output ``(height, width)`` of
            each.

    Returns:
        int: 8, 4, 2 or 1, the largest that leaves every crop at least as
        many pixels as its output has.
    """
    for reduction in (8, 4, 2):
        if all(
            box.width >= reduction * width and box.height >= reduction * height
            for box, (height, width) in zip(boxes, sizes)
        ):
            return reduction
    return 1


def snap_crop(
    box: CropBox, reduction: int, width: int, height: int
) -> CropBox:
    """Move the edges of a box to whole pixels of a reduced image.

    Args:
        box (CropBox): In pixels of the full image.
        reduction (int): Factor by which the image is reduced.
        width (int): Width of the full image.
        height (int): Its height.

    Returns:
        CropBox: The nearest such box, in pixels of the full image; edges at
        the right and bottom of the image stay there.
    """

    def snap(start: int, length: int, limit: int) -> Tuple[int, int]:
        stop = start + length
        first = round(start / reduction) * reduction
        last = limit if stop == limit else round(stop / reduction) * reduction
        return first, min(last, limit) - first

    left, w = snap(box.left, box.width, width)
    top, h = snap(box.top, box.height, height)
    return CropBox(left, top, w, h)


def crop_resize(
    image: np.ndarray,
    box: CropBox,
    size: Tuple[int, int],
    reduction: int = 1,
    interpolation: str = 'bicubic',
) -> np.ndarray:
    """Cut a box and resize it with antialiasing.

    The filter of Pillow's ``resize`` of the cut box, about five times faster
    (torch has it in fixed point with vector instructions): results differ by
    one level at most, except that bicubic overshoots of very rough images
    may be cut in another order when one side shrinks and the other grows.

    Args:
        image (np.ndarray): RGB ``(H, W, 3)``, uint8.
        box (CropBox): In pixels of the full image; of :func:`snap_crop` if
            that is reduced.
        size (Tuple[int, int]): Output ``(height, width)``.
        reduction (int): ``image`` is the full image reduced by this factor.
            Defaults to 1.
        interpolation (str): One of :data:`INTERPOLATIONS`. Defaults to
            'bicubic'.

    Returns:
        np.ndarray: ``(height, width, 3)``, uint8.
    """
    left, top = box.left // reduction, box.top // reduction
    right = -(-(box.left + box.width) // reduction)
    bottom = -(-(box.top + box.height) // reduction)
    part = image[top:bottom, left:right]
    if part.shape[:2] == tuple(size):
        return part.copy()
    # the batch axis first: torch then sees channels_last, and keeps it
    resized = F.interpolate(
        torch.from_numpy(part)[None].permute(0, 3, 1, 2),
        size=tuple(size),
        mode=interpolation,
        antialias=True,
    )
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def to_view(
    points: np.ndarray, box: CropBox, size: Tuple[int, int], flip: bool
) -> np.ndarray:
    """Where points of the source image lie in a view.

    Coordinates are continuous: the centre of the first pixel is at 0.5.

    Args:
        points (np.ndarray): ``(..., 2)``, x and y in the source, pixels.
        box (CropBox): Crop of the view.
        size (Tuple[int, int]): Its ``(height, width)``.
        flip (bool): Whether it was flipped horizontally after the crop.

    Returns:
        np.ndarray: ``(..., 2)``, x and y in the view, pixels. Outside
        [0, width) or [0, height) for points that it does not show.
    """
    height, width = size
    points = np.asarray(points, dtype=np.float64)
    x = (points[..., 0] - box.left) * width / box.width
    y = (points[..., 1] - box.top) * height / box.height
    return np.stack([width - x if flip else x, y], axis=-1)
