"""Check lists of names with images and XML files."""

import math
from typing import Any, Dict, List, Tuple
from xml.etree import ElementTree

from .boxes import check_corners, compare_sizes
from .common import broken_pictures, listing_of, present, read_names
from .context import Context
from .parts import VocList
from .pictures import Picture, read_picture

# LookupError: encodings that nobody knows
_UNREADABLE = (ElementTree.ParseError, ValueError, OSError, LookupError)


def check_voc(context: Context, part: VocList) -> None:
    """Check a list of names with images and XML files.

    Args:
        context (Context): Of this run.
        part (VocList): The list and its folders.
    """
    if not present(context, part):
        return
    names = read_names(context, part, part.list_file)
    context.count(part, 'names', len(names), part.count, part.list_file)
    images = listing_of(context, part, part.images, ['.jpg']).files
    boxes = listing_of(context, part, part.boxes, ['.xml']).files
    for files, what, folder, suffix in (
        (images, 'image', part.images, '.jpg'),
        (boxes, 'XML file', part.boxes, '.xml'),
    ):
        lacking = [name + suffix for name in names if name not in files]
        if lacking:
            context.say(
                'error',
                f'no {what}',
                part,
                part.list_file,
                f'{len(lacking):,} names of the list have no {what} in '
                f'{folder}.',
                '',
                lacking,
            )
    both = [name for name in names if name in images and name in boxes]
    chosen = context.pick(both)
    pictures = context.run(part, read_picture, [images[n] for n in chosen])
    found = dict(zip(chosen, pictures))
    errors = {name: picture.error for name, picture in found.items()}
    broken_pictures(context, part, part.images, errors)
    _check_xml(context, part, {name: boxes[name] for name in chosen}, found)


def _check_xml(
    context: Context,
    part: VocList,
    paths: Dict[str, str],
    pictures: Dict[str, Picture],
) -> None:
    broken, unknown = [], []
    sizes: Dict[str, Tuple[int, int]] = {}
    corners = []
    for name, path in paths.items():
        try:
            size, rows = _read_xml(path)
        except _UNREADABLE as error:
            broken.append(f'{name}.xml: {error}')
            continue
        sizes[name] = size
        for kind, box in rows:
            if part.names and kind not in part.names:
                unknown.append(f'{name}.xml: {kind}')
            corners.append((f'{name}.xml', box, size))
    for rows_of, code, text in (
        (broken, 'broken xml', 'XML files cannot be read'),
        (unknown, 'unknown class', 'boxes are of an unknown class'),
    ):
        if rows_of:
            context.say(
                'error',
                code,
                part,
                part.boxes,
                f'{len(rows_of):,} {text} ({len(paths):,} files opened).',
                '',
                rows_of,
            )
    check_corners(context, part, part.boxes, corners)
    both = {name: pictures[name] for name in sizes}
    compare_sizes(context, part, part.boxes, both, sizes)


def _read_xml(path: str) -> Tuple[Tuple[int, int], List[Tuple[str, tuple]]]:
    """Height and width, and class and corners of each object."""
    root = ElementTree.parse(path).getroot()

    def number(node: Any, key: str) -> float:
        text = None if node is None else node.findtext(key)
        if text is None:
            raise ValueError(f'no <{key}>')
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f'<{key}> is {text}')
        return value

    size = root.find('size')
    height, width = int(number(size, 'height')), int(number(size, 'width'))
    rows = []
    for item in root.findall('object'):
        box = item.find('bndbox')
        corners = tuple(
            number(box, key) for key in ('xmin', 'ymin', 'xmax', 'ymax')
        )
        kind = item.findtext('name')
        if kind is None:
            raise ValueError('no <name>')
        rows.append((kind.strip(), corners))
    return (height, width), rows
