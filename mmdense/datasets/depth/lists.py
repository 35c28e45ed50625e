"""Lists of image, depth and focal length, as BTS distributes them."""

import os.path as osp
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from mmengine import fileio, list_from_file

from .errors import DepthFileError, MissingDepthError, named

# entries looked at to find the folder that a list starts from
_PROBES = 16


class ListEntry(NamedTuple):
    """One line of a list; paths with '/', without one at the start."""

    image: str
    depth: str
    focal: float


def plain_path(path: str) -> str:
    """A path of a list, relative and with forward slashes.

    Args:
        path (str): For instance '/kitchen_0028b/rgb_00045.jpg'.

    Returns:
        str: For instance 'kitchen_0028b/rgb_00045.jpg'.
    """
    path = path.replace('\\', '/').lstrip('/')
    return path[2:] if path.startswith('./') else path


def read_depth_list(
    path: str, backend_args: Optional[dict] = None
) -> Tuple[List[ListEntry], int]:
    """Read a list of BTS.

    Args:
        path (str): Text file; ``image depth focal`` a line, the focal length
            in pixels may be missing (then 0). Empty lines are ignored.
        backend_args (dict, optional): File backend of mmengine. Defaults to
            None.

    Returns:
        Tuple[List[ListEntry], int]: The entries in the order of the file,
        and the number of lines left out because their depth is ``None``.

    Raises:
        MissingDepthError: If the file is missing or has no entry.
        DepthFileError: If a line has another form; names the line.
    """
    if not fileio.exists(path, backend_args):
        raise MissingDepthError(
            f'{path}: no such list; check data_root and ann_file'
        )
    entries: List[ListEntry] = []
    without_depth = 0
    lines = list_from_file(path, backend_args=backend_args)
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) not in (2, 3):
            raise DepthFileError(
                f'{path}, line {number}: expected "image depth focal", got '
                f'{line!r}'
            )
        if words[1] == 'None':
            without_depth += 1
            continue
        try:
            focal = float(words[2]) if len(words) == 3 else 0.0
        except ValueError:
            raise DepthFileError(
                f'{path}, line {number}: the focal length {words[2]!r} is no '
                'number'
            ) from None
        entries.append(
            ListEntry(plain_path(words[0]), plain_path(words[1]), focal)
        )
    if not entries:
        raise MissingDepthError(f'{path}: no entry with depth in this list')
    return entries, without_depth


def _probes(names: Sequence[str]) -> List[str]:
    step = max(len(names) // _PROBES, 1)
    return list(names[::step])


def find_base(
    root: str,
    bases: Sequence[str],
    names: Sequence[str],
    suffixes: Sequence[str] = (),
    backend_args: Optional[dict] = None,
) -> Tuple[str, Optional[str]]:
    """Folder from which the paths of a list start.

    Args:
        root (str): ``data_root``.
        bases (Sequence[str]): Candidates, relative to ``root``, the
            preferred one first.
        names (Sequence[str]): Paths of the list; some are looked for.
        suffixes (Sequence[str]): Endings that files may have instead of the
            listed one. Defaults to ().
        backend_args (dict, optional): File backend of mmengine. Defaults to
            None.

    Returns:
        Tuple[str, str or None]: The folder where most of them are, and the
        suffix to use if it is not the listed one.

    Raises:
        MissingDepthError: If none of them is anywhere; names what was looked
            for.
    """
    probes = _probes(names)
    best: Tuple[int, str, Optional[str]] = (0, '', None)
    for base in bases:
        folder = osp.join(root, base) if base else root
        for suffix in (None, *suffixes):
            found = sum(
                fileio.exists(
                    with_suffix(osp.join(folder, name), suffix), backend_args
                )
                for name in probes
            )
            if found > best[0]:
                best = (found, folder, suffix)
        if best[0] == len(probes):
            break
    if not best[0]:
        tried = ' or '.join(osp.join(root, base) for base in bases)
        raise MissingDepthError(
            f'{len(probes)} entries of the list were looked for and are not '
            f'in {tried}: {named(probes)}; check data_root'
        )
    return best[1], best[2]


def with_suffix(path: str, suffix: Optional[str]) -> str:
    """The path with another ending, or as it is for None."""
    return path if suffix is None else osp.splitext(path)[0] + suffix


def folder_of(
    root: str, bases: Sequence[str], name: str, backend_args: Any = None
) -> Optional[str]:
    """First candidate that has a sub-folder.

    Args:
        root (str): ``data_root``.
        bases (Sequence[str]): Candidates, relative to ``root``.
        name (str): Name of the sub-folder.
        backend_args (dict, optional): File backend of mmengine. Defaults to
            None.

    Returns:
        str, optional: Path of the candidate; None if there is none.
    """
    for base in bases:
        folder = osp.join(root, base) if base else root
        if fileio.isdir(osp.join(folder, name), backend_args):
            return folder
    return None
