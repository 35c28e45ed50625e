"""Open picture files to see whether they are whole, and what they hold."""

from dataclasses import dataclass
from typing import FrozenSet, Optional, Tuple

import numpy as np
from PIL import Image

_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Picture:
    """A picture file after it was read.

    Attributes:
        error (str): What is wrong with the file, '' if it is whole.
        size (Tuple[int, int]): Height and width as stored.
        turned (bool): Whether its EXIF entry exchanges the two.
        mode (str): Pillow's name of the pixel format.
        values (FrozenSet[int], optional): Values that occur; None for
            colour pictures and where they were not asked for.
    """

    error: str = ''
    size: Tuple[int, int] = (0, 0)
    turned: bool = False
    mode: str = ''
    values: Optional[FrozenSet[int]] = None


def read_picture(path: str, values: bool = False) -> Picture:
    """Decode a picture file completely.

    Args:
        path (str): The file; it is only read.
        values (bool): Whether to list the values that occur. Defaults to
            False.

    Returns:
        Picture: With ``error`` if the file is missing, cut or no picture.
    """
    try:
        return _read(path, values)
    except FileNotFoundError:
        return Picture('missing')
    except Exception as error:  # decoders raise whatever they meet
        text = str(error)
        if 'cannot identify' in text:
            return Picture('not a picture')
        cut = 'truncated' in text or 'Truncated' in text
        return Picture('truncated' if cut else f'cannot be decoded: {text}')


def picture_error(path: str) -> str:
    """What is wrong with a picture file.

    Args:
        path (str): The file; it is only read.

    Returns:
        str: As :attr:`Picture.error`.
    """
    return read_picture(path).error


def _read(path: str, values: bool) -> Picture:
    with Image.open(path) as image:
        image.load()
        width, height = image.size
        orientation = 1
        if 'exif' in image.info:
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        return Picture(
            size=(height, width),
            turned=orientation in (5, 6, 7, 8),
            mode=image.mode,
            values=_values(image) if values else None,
        )


def _values(image: Image.Image) -> Optional[FrozenSet[int]]:
    if image.mode in ('L', 'P'):
        # a palette's indices, not its colours
        counts = image.histogram()
        return frozenset(i for i, count in enumerate(counts) if count)
    if image.mode == '1' or image.mode.startswith('I'):
        # one bit: 0 and 1, where a histogram counts 0 and 255
        return frozenset(np.unique(np.asarray(image).astype(int)).tolist())
    return None
