"""What several checks do: list folders and lists, name broken pictures."""

import os.path as osp
from collections import Counter
from typing import Dict, List, Sequence

from .context import Context
from .parts import Part
from .scan import Listing, scan


def listing_of(
    context: Context,
    part: Part,
    folder: str,
    suffixes: Sequence[str],
    any_case: bool = False,
) -> Listing:
    """List a folder once, and say what is odd about it.

    Args:
        context (Context): Of this run.
        part (Part): Who asks.
        folder (str): Relative to the root.
        suffixes (Sequence[str]): Ends of names to take.
        any_case (bool): Whether case does not matter. Defaults to False.

    Returns:
        Listing: From the memory of the run, if it was listed before.
    """
    key = (folder, tuple(suffixes), any_case)
    if key in context.listings:
        return context.listings[key]
    listing = scan(context.path(folder), suffixes, any_case)
    context.listings[key] = listing
    macos = [n for n in listing.hidden if osp.basename(n).startswith('._')]
    if macos:
        context.say(
            'warning',
            'macos files',
            part,
            folder,
            f"{len(macos):,} '._' files of macOS among the data; they are "
            'passed over.',
            'No pictures are in them, they may be deleted.',
            macos,
        )
    if listing.wrong_case:
        context.say(
            'error',
            'suffix case',
            part,
            folder,
            f'{len(listing.wrong_case):,} files end in another case than '
            f'{"/".join(suffixes)}, which is what is read.',
            'Rename them.',
            listing.wrong_case,
        )
    if listing.broken_links:
        context.say(
            'error',
            'broken link',
            part,
            folder,
            f'{len(listing.broken_links):,} links to nothing.',
            '',
            listing.broken_links,
        )
    if listing.unreadable:
        context.say(
            'error',
            'unreadable folder',
            part,
            folder,
            f'{len(listing.unreadable):,} folders may not be listed.',
            '',
            [name or '.' for name in listing.unreadable],
        )
    return listing


def present(context: Context, part: Part) -> bool:
    """Whether all folders and files of a part are there; says which not."""
    missing = [
        *(p for p in part.folders if not osp.isdir(context.path(p))),
        *(p for p in part.files if not osp.isfile(context.path(p))),
    ]
    for path in missing:
        context.missing(part, path)
    return not missing


def broken_pictures(
    context: Context,
    part: Part,
    where: str,
    errors: Dict[str, str],
    what: str = 'images',
) -> None:
    """Name the pictures that could not be read.

    Args:
        context (Context): Of this run.
        part (Part): What is checked.
        where (str): Their folder, relative to the root.
        errors (Dict[str, str]): What is wrong with each opened picture, ''
            for nothing.
        what (str): Word for them. Defaults to 'images'.
    """
    broken = [f'{name}: {error}' for name, error in errors.items() if error]
    if broken:
        context.say(
            'error',
            'broken picture',
            part,
            where,
            f'{len(broken):,} of {len(errors):,} opened {what} cannot be '
            'read.',
            'Fetch them again.',
            broken,
        )


def read_names(context: Context, part: Part, path: str) -> List[str]:
    """Names in a list file; says what is wrong with the list.

    Args:
        context (Context): Of this run.
        part (Part): Who asks.
        path (str): The list, relative to the root.

    Returns:
        List[str]: Names, each once, without blank lines.
    """
    full = context.path(path)
    try:
        with open(full, encoding='utf-8', errors='replace') as file:
            lines = file.read().splitlines()
    except OSError as error:
        text = f'The list cannot be read: {error.strerror}.'
        context.say('error', 'list format', part, path, text)
        return []
    names = [line.strip() for line in lines if line.strip()]
    if any(line != line.strip() or not line for line in lines):
        context.say(
            'error',
            'list format',
            part,
            path,
            'The list has blank lines, or spaces around names.',
            'Keep one name a line and nothing else.',
        )
    unique = list(dict.fromkeys(names))
    if len(unique) < len(names):
        twice = [n for n, times in Counter(names).items() if times > 1]
        context.say(
            'warning',
            'listed twice',
            part,
            path,
            f'{len(names) - len(unique):,} names are in the list again.',
            '',
            twice,
        )
    return unique
