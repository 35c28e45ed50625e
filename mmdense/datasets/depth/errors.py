"""What can be wrong with a sample of a depth data set."""

import os.path as osp
from typing import Any, Iterable

from mmdense.utils.errors import UserError

from ..image_index import IMAGE_EXTENSIONS
from ..image_io import BadImageError, open_image

#: files that a message names
NAMED = 10


class BadSampleError(UserError):
    """One sample cannot be used; the message names its file.

    Training goes on with another sample unless the data set is ``strict``.
    """


class MissingDepthError(BadSampleError, FileNotFoundError):
    """A folder, list or file of a depth data set that is not there."""


class DepthFileError(BadSampleError, RuntimeError):
    """A file of a depth data set is missing or cannot be read."""


class DepthSampleError(BadSampleError, ValueError):
    """Image and depth can be read, but a transform cannot use them."""


def named(paths: Iterable[Any], separator: str = ', ') -> str:
    """The first paths of some, for a message.

    Args:
        paths (Iterable[Any]): Paths.
        separator (str): Defaults to ', '.

    Returns:
        str: Ten of them, and how many more there are.
    """
    paths = [str(path) for path in paths]
    more = len(paths) - NAMED
    text = separator.join(paths[:NAMED])
    return f'{text} and {more} more' if more > 0 else text


def first_line(error: BaseException) -> str:
    """First line of a message; OpenCV's have several.

    Args:
        error (BaseException): The error.

    Returns:
        str: The line; the type of the error if it has no message.
    """
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def with_path(path: str, error: Exception) -> str:
    """Message of a loader, with the file.

    Args:
        path (str): The file.
        error (Exception): What the loader raised.

    Returns:
        str: One line that names the file.
    """
    text = first_line(error)
    return text if path in text else f'{path}: cannot be read ({text})'


def raise_if_broken(path: str) -> None:
    """Find out if an image, and not the code, is at fault.

    Args:
        path (str): The image.

    Raises:
        DepthFileError: If it is.
    """
    if not osp.isfile(path) or not path.lower().endswith(IMAGE_EXTENSIONS):
        return
    try:
        open_image(path).decode()
    except BadImageError as error:
        raise DepthFileError(first_line(error)) from error
