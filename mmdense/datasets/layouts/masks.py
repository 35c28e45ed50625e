"""Masks of annotation files, decoded far enough to see that they fit."""

from typing import Any, List

from .rows import is_number


class MaskError(ValueError):
    """A mask that cannot be decoded, with the reason."""


def run_lengths(text: str) -> List[int]:
    """Decode the compressed run lengths of a COCO mask.

    Every number is written in groups of five bits, low ones first, as
    characters from '0' on; from the third run on, the difference to the run
    before the last is stored.

    Args:
        text (str): ``counts`` of a mask.

    Returns:
        List[int]: Lengths in pixels, of 0 and 1 in turn.

    Raises:
        MaskError: If the text ends within a number or holds other
            characters.
    """
    counts: List[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise MaskError(f'character {character!r} in counts')
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:  # negative
            value -= 1 << shift
        if len(counts) > 2:
            value += counts[-2]
        counts.append(value)
        value = shift = 0
    if shift:
        raise MaskError('counts end within a number')
    return counts


def check_mask(segmentation: Any, height: int, width: int) -> None:
    """Refuse a mask that does not fit its image.

    Args:
        segmentation (list or dict): Polygons, or run lengths with ``size``
            and ``counts``.
        height (int): Of the image, in pixels.
        width (int): Of the image, in pixels.

    Raises:
        MaskError: If it is broken, empty or of another size.
    """
    if isinstance(segmentation, dict):
        _check_runs(segmentation, height, width)
    elif isinstance(segmentation, list):
        _check_polygons(segmentation, height, width)
    else:
        raise MaskError(f'segmentation is a {type(segmentation).__name__}')


def _check_runs(mask: dict, height: int, width: int) -> None:
    counts, total = mask.get('counts'), height * width
    size = mask.get('size')
    if size != [height, width] or not all(type(n) is int for n in size):
        raise MaskError(
            f'size {str(size)[:60]}, the image has {[height, width]}'
        )
    if isinstance(counts, str):
        counts = run_lengths(counts)
    if not isinstance(counts, list) or any(
        type(n) is not int or not 0 <= n <= total for n in counts
    ):
        raise MaskError('counts are no run lengths')
    if sum(counts) != total:
        raise MaskError(
            f'run lengths of {sum(counts)} pixels in an image of {total}'
        )
    if sum(counts[1::2]) == 0:
        raise MaskError('no pixel in the mask')


def _check_polygons(polygons: list, height: int, width: int) -> None:
    if not polygons:
        raise MaskError('no polygon')
    for polygon in polygons:
        if not isinstance(polygon, list) or any(
            not is_number(x) for x in polygon
        ):
            raise MaskError('a polygon is no list of numbers')
        if len(polygon) < 6 or len(polygon) % 2:
            raise MaskError(f'a polygon of {len(polygon)} numbers')
        xs, ys = polygon[::2], polygon[1::2]
        if max(xs) < 0 or min(xs) > width or max(ys) < 0 or min(ys) > height:
            raise MaskError('a polygon outside of the image')
