"""List folders as they are found on people's disks."""

import os
import os.path as osp
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Sequence, Set, Tuple

ARCHIVES = ('.zip', '.tar', '.tar.gz', '.tgz', '.tar.bz2', '.7z', '.rar')


@dataclass
class Listing:
    """The files of a folder that end in certain ways.

    Attributes:
        files (Dict[str, str]): Path by stem. Stems are paths relative to
            the folder, with ``/`` and without the suffix.
        wrong_case (List[str]): Paths that would count but for their case.
        hidden (List[str]): Names that start with a dot, '._' files of macOS
            among them.
        archives (List[str]): Packed files.
        broken_links (List[str]): Links to nothing.
        unreadable (List[str]): Folders that may not be listed.
        others (int): Further files.
    """

    files: Dict[str, str] = field(default_factory=dict)
    wrong_case: List[str] = field(default_factory=list)
    hidden: List[str] = field(default_factory=list)
    archives: List[str] = field(default_factory=list)
    broken_links: List[str] = field(default_factory=list)
    unreadable: List[str] = field(default_factory=list)
    others: int = 0


def scan(
    folder: str,
    suffixes: Sequence[str],
    any_case: bool = False,
    recursive: bool = True,
) -> Listing:
    """List the files below a folder.

    Links are followed, but no folder is visited twice.

    Args:
        folder (str): Where to look.
        suffixes (Sequence[str]): Ends of names to take.
        any_case (bool): Whether case does not matter; ``suffixes`` are in
            lower case then. Defaults to False.
        recursive (bool): Look into the folders in it. Defaults to True.

    Returns:
        Listing: What is there, in the order of the names.
    """
    listing = Listing()
    seen: Set[Tuple[int, int]] = set()
    stack = ['']
    while stack:
        below = stack.pop()
        try:
            status = os.stat(osp.join(folder, below))
            # some network drives have no inodes
            key = (status.st_dev, status.st_ino)
            if key[1] and key in seen:
                continue
            seen.add(key)
            with os.scandir(osp.join(folder, below)) as iterator:
                entries = sorted(iterator, key=lambda entry: entry.name)
        except OSError:
            listing.unreadable.append(below)
            continue
        folders = []
        for entry in entries:
            name = f'{below}/{entry.name}' if below else entry.name
            if entry.name.startswith('.'):
                listing.hidden.append(name)
            elif _is(entry.is_dir):
                folders.append(name)
            else:
                _take(listing, entry, name, suffixes, any_case)
        if recursive:
            stack += reversed(folders)
    return listing


def _take(
    listing: Listing,
    entry: Any,
    name: str,
    suffixes: Sequence[str],
    any_case: bool,
) -> None:
    lower = name.lower()
    spelled = lower if any_case else name
    for suffix in suffixes:
        if spelled.endswith(suffix):
            if not _is(entry.is_file):
                listing.broken_links.append(name)
            else:
                stem = name if any_case else name[: -len(suffix)]
                listing.files[stem] = entry.path
            return
    if any(lower.endswith(suffix.lower()) for suffix in suffixes):
        listing.wrong_case.append(name)
    elif lower.endswith(ARCHIVES):
        listing.archives.append(name)
    else:
        listing.others += 1


def archives_near(root: str, path: str) -> List[str]:
    """Packed files beside something that is missing.

    Args:
        root (str): Root of the data set.
        path (str): What is missing, relative to the root.

    Returns:
        List[str]: Names relative to the root, from the folders that would
        lead there.
    """
    found = []
    folder = path
    while True:
        full = osp.join(root, folder) if folder else root
        try:
            names = sorted(os.listdir(full))
        except OSError:
            names = []
        found += [
            osp.join(folder, name)
            for name in names
            if name.lower().endswith(ARCHIVES) and name[0] != '.'
        ]
        above = osp.dirname(folder)
        # the end of a path from the root of the disk is '/'
        if above == folder:
            return found
        folder = above


def find_elsewhere(root: str, path: str) -> List[str]:
    """Where else a file or folder is, up to two folders deep.

    Args:
        root (str): Root of the data set.
        path (str): What is missing, relative to the root.

    Returns:
        List[str]: Paths relative to the root that end like ``path``, or
        files of the same name.
    """
    found = []
    level = [root]
    for _ in range(3):
        for folder in level:
            whole = osp.join(folder, path)
            alone = osp.join(folder, osp.basename(path))
            if osp.exists(whole):
                found.append(osp.relpath(whole, root))
            elif osp.isfile(alone):
                found.append(osp.relpath(alone, root))
        level = [sub for folder in level for sub in subfolders(folder)]
    return found


def better_roots(root: str, paths: Sequence[str]) -> List[str]:
    """Folders near the root that look more like the root.

    Args:
        root (str): Folder that holds none of the paths.
        paths (Sequence[str]): Folders and files that a root holds.

    Returns:
        List[str]: Up to two folders above and two below, those with the
        most of the paths first; empty if there is none.
    """
    root = osp.abspath(root)
    near = [osp.dirname(root), osp.dirname(osp.dirname(root))]
    level = [root]
    for _ in range(2):
        level = [sub for folder in level for sub in subfolders(folder)]
        near += level
    scores = {
        folder: sum(osp.exists(osp.join(folder, p)) for p in paths)
        for folder in dict.fromkeys(near)
    }
    found = [folder for folder, score in scores.items() if score]
    return sorted(found, key=lambda folder: -scores[folder])


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # a link to itself
        return False


def subfolders(folder: str, most: int = 100) -> List[str]:
    """Folders in a folder.

    Args:
        folder (str): Where to look.
        most (int): At most so many. Defaults to 100.

    Returns:
        List[str]: Paths, ordered by name, without those whose name starts
        with a dot; empty if the folder may not be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                entry.path
                for entry in entries
                if _is(entry.is_dir) and not entry.name.startswith('.')
            )
    except OSError:
        return []
    return names[:most]
