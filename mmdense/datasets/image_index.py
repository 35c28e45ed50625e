"""Find image files, and remember where they are."""

import glob
import logging
import os
import os.path as osp
import tempfile
from typing import Any, Iterable, List, Optional, Sequence, Set, Tuple

import numpy as np
from mmengine.logging import print_log

from ..utils.errors import UserError

IMAGE_EXTENSIONS = (
    '.jpg',
    '.jpeg',
    '.jpe',
    '.jfif',
    '.png',
    '.bmp',
    '.webp',
    '.tif',
    '.tiff',
    '.gif',
    '.ppm',
    '.pgm',
    '.avif',
)
# a folder changed this shortly before a scan may change again unseen
_CLOCK_SLACK_NS = 2_000_000_000
_LIST_EXTENSIONS = ('.txt', '.lst', '.list')
_GLOB_CHARACTERS = '*?['


class NoImagesError(UserError, FileNotFoundError):
    """Paths that lead to no image."""


class FolderListing:
    """What was found below some folders.

    Attributes:
        files (List[str]): Image files, folder by folder, sorted by name.
        folders (List[str]): Folders that were visited.
        others (Set[str]): Extensions of files that were passed over.
        unreadable (List[str]): Folders that may not be listed.
    """

    def __init__(self) -> None:
        self.files: List[str] = []
        self.folders: List[str] = []
        self.others: Set[str] = set()
        self.unreadable: List[str] = []

    def scan(
        self, folder: str, extensions: Iterable[str], recursive: bool = True
    ) -> 'FolderListing':
        """Add the images of a folder.

        Links are followed, but no folder is visited twice. Names that start
        with a dot are passed over.

        Args:
            folder (str): Where to look.
            extensions (Iterable[str]): Lower-case extensions to take.
            recursive (bool): Look into folders in it. Defaults to True.

        Returns:
            FolderListing: Itself.
        """
        wanted = frozenset(extensions)
        seen: Set[Tuple[int, int]] = set()
        stack = [folder]
        while stack:
            current = stack.pop()
            try:
                status = os.stat(current)
                # some network drives have no inodes
                key = (status.st_dev, status.st_ino)
                if key[1] and key in seen:
                    continue
                seen.add(key)
                with os.scandir(current) as iterator:
                    entries = sorted(iterator, key=_name)
            except OSError:
                self.unreadable.append(current)
                continue
            self.folders.append(current)
            below = self._take(entries, wanted)
            if recursive:
                stack += reversed(below)
        return self

    def _take(self, entries: List[Any], wanted: frozenset) -> List[str]:
        """Sort the entries of one folder; returns the folders in it."""
        below = []
        for entry in entries:
            if entry.name.startswith('.'):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:
                continue
            if is_folder:
                below.append(entry.path)
                continue
            extension = os.path.splitext(entry.name)[1].lower()
            if extension in wanted:
                self.files.append(entry.path)
            else:
                self.others.add(extension or '(none)')
        return below


def _name(entry: Any) -> str:
    return entry.name


def expand_sources(paths: Sequence[str], data_root: str = '') -> List[str]:
    """Folders and files that the paths name; patterns are expanded.

    Args:
        paths (Sequence[str]): Folders, files and glob patterns.
        data_root (str): Put before relative ones. Defaults to ''.

    Returns:
        List[str]: Existing folders and files. List files are taken when they
        are named, or when the pattern ends like one.

    Raises:
        NoImagesError: If one does not exist or match anything.
    """
    if not paths:
        raise NoImagesError('UnlabeledImages.paths is empty.')
    sources: List[str] = []
    for path in paths:
        full = osp.normpath(osp.join(data_root, osp.expanduser(path)))
        if osp.exists(full):
            sources.append(full)
            continue
        found = []
        if any(c in path for c in _GLOB_CHARACTERS):
            found = sorted(glob.glob(full, recursive=True))
            if not path.lower().endswith(_LIST_EXTENSIONS):
                # a text beside the images is not a list of images
                found = [
                    name
                    for name in found
                    if not name.lower().endswith(_LIST_EXTENSIONS)
                ]
        if not found:
            raise NoImagesError(
                f'UnlabeledImages.paths: nothing at {full!r} (looked from '
                f'{os.getcwd()}). Give a folder, an image, a list file or a '
                'glob pattern; relative ones start at data_root='
                f'{data_root!r}.'
            )
        sources += found
    return sources


def read_list(path: str, data_root: str = '') -> List[str]:
    """Paths in a list file.

    Args:
        path (str): Text file, UTF-8, one path a line.
        data_root (str): Put before relative paths. Defaults to '', the
            folder of the list.

    Returns:
        List[str]: The paths; whether they exist is not checked.
    """
    root = data_root or osp.dirname(path)
    files = []
    with open(path, encoding='utf-8-sig', errors='surrogateescape') as file:
        for raw in file:
            line = raw.strip()
            if not line or line.startswith('#'):
                continue
            name, _, label = line.rpartition(' ')
            if label.lstrip('-').isdigit() and osp.splitext(name)[1]:
                line = name.strip()
            files.append(osp.join(root, line))
    return files


def find_images(
    sources: Sequence[str],
    extensions: Sequence[str],
    recursive: bool = True,
    data_root: str = '',
) -> Tuple[List[str], List[str]]:
    """Image files of folders, list files and files.

    Args:
        sources (Sequence[str]): Of :func:`expand_sources`.
        extensions (Sequence[str]): What to take from folders.
        recursive (bool): Look into folders of folders. Defaults to True.
        data_root (str): For list files, see :func:`read_list`. Defaults to
            ''.

    Returns:
        Tuple[List[str], List[str]]: Image files in a fixed order, each once,
        and the folders and list files they were found in.

    Raises:
        NoImagesError: If there are no images.
    """
    listing = FolderListing()
    visited: List[str] = []
    for source in sources:
        if osp.isdir(source):
            listing.scan(source, extensions, recursive)
        elif source.lower().endswith(_LIST_EXTENSIONS):
            listing.files += read_list(source, data_root)
            visited.append(source)
        elif osp.splitext(source)[1].lower() in extensions:
            listing.files.append(source)
        else:
            listing.others.add(osp.splitext(source)[1].lower() or '(none)')
    for folder in listing.unreadable:
        print_log(
            f'Folder left out, it cannot be listed: {folder}',
            'current',
            level=logging.WARNING,
        )
    files = list(dict.fromkeys(listing.files))
    if not files:
        seen = ', '.join(sorted(listing.others)) or 'no files'
        hint = '' if recursive else ' Folders in it: set recursive=True.'
        raise NoImagesError(
            f'UnlabeledImages: no image in {list(sources)[:5]}. Looked for '
            f'{", ".join(extensions)}; found {seen}.{hint}'
        )
    return files, visited + listing.folders


def save_index(
    path: str, key: str, files: List[str], visited: List[str], started: int
) -> None:
    """Keep an index for the next start; only warns if that fails.

    Args:
        path (str): npz file. It appears complete or not at all, whoever
            else writes it.
        key (str): What the index depends on besides the disk.
        files (List[str]): Image files.
        visited (List[str]): Folders and lists they were found in.
        started (int): When the search began, nanoseconds since the epoch.
    """
    temporary = ''
    try:
        stamps = [os.stat(name).st_mtime_ns for name in visited]
        if any(stamp > started - _CLOCK_SLACK_NS for stamp in stamps):
            return  # still being filled: the next start looks again
        folder = osp.dirname(osp.abspath(path))
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp('.npz', dir=folder)
        with os.fdopen(handle, 'wb') as file:
            np.savez(
                file,
                key=np.array(key),
                files=_join(files),
                visited=_join(visited),
                stamps=np.array(stamps, dtype=np.int64),
            )
        os.replace(temporary, path)
    except OSError as error:
        if temporary and osp.exists(temporary):
            os.unlink(temporary)
        print_log(
            f'The image index is not kept: cannot write {path} ({error}).',
            'current',
            level=logging.WARNING,
        )


def load_index(path: str, key: str) -> Optional[List[str]]:
    """Read an index if it is there, readable and up to date.

    Args:
        path (str): npz file.
        key (str): As given to :func:`save_index`.

    Returns:
        List[str] or None: Image files.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if str(archive['key']) != key:
                return None
            visited = _split(archive['visited'])
            stamps = archive['stamps'].tolist()
            if [os.stat(name).st_mtime_ns for name in visited] != stamps:
                return None
            return _split(archive['files'])
    except Exception:  # a broken cache is a missing cache
        return None


def _join(names: List[str]) -> np.ndarray:
    joined = b'\0'.join(os.fsencode(name) for name in names)
    return np.frombuffer(joined, dtype=np.uint8)


def _split(joined: np.ndarray) -> List[str]:
    content = joined.tobytes()
    return [os.fsdecode(p) for p in content.split(b'\0')] if content else []
