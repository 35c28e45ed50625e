"""Check the sets of zero-shot depth: scenes, sequences, pairs of points."""

import os.path as osp
from functools import partial
from typing import Dict, List, Tuple

from .check_depth import check_maps
from .common import broken_pictures, listing_of, present
from .context import Context
from .depth_files import DepthMap, read_depth, read_dpt, read_float32
from .parts import Part
from .parts_depth import PointList, ScenePairs, TimedPairs
from .pictures import picture_error, read_picture
from .scan import subfolders

_POINTS = 7


def check_scenes(context: Context, part: ScenePairs) -> None:
    """Check scenes with a folder of images and one of depth files.

    Args:
        context (Context): Of this run.
        part (ScenePairs): Their folder.
    """
    if not present(context, part):
        return
    root = context.path(part.root)
    pairs: List[Tuple[str, str, str]] = []
    lonely: List[str] = []
    for scene in _scenes(context, osp.join(part.root, part.scenes)):
        folder = part.images.format(scene=scene)
        if not osp.isdir(osp.join(root, folder)):
            continue
        where = osp.join(part.root, folder)
        for end in part.image_suffixes:
            files = listing_of(context, part, where, [end]).files
            for stem, path in files.items():
                name = stem + end
                depth = part.depths.format(scene=scene, name=name, stem=stem)
                full = osp.join(root, depth)
                if osp.isfile(full):
                    pairs.append((f'{folder}/{name}', path, full))
                else:
                    lonely.append(depth)
    found = len(pairs) + len(lonely)
    context.count(part, 'images', found, part.count, part.root)
    _say_missing(context, part, part.root, found, lonely, 'depth file')
    if not found:
        _say_empty(context, part, part.root, part.images)
    chosen = context.pick(sorted(pairs))
    images = context.run(part, read_picture, [path for _, path, _ in chosen])
    errors = {name: p.error for (name, _, _), p in zip(chosen, images)}
    broken_pictures(context, part, part.root, errors)
    maps: Dict[str, DepthMap] = {}
    for (name, _, path), image in zip(chosen, images):
        if not image.error:
            maps[name] = (
                read_dpt(path)
                if part.coding == 'dpt'
                else read_float32(path, image.size)
            )
    errors = {name: m.error for name, m in maps.items()}
    broken_pictures(context, part, part.root, errors, 'depth files')
    good = {name: m for name, m in maps.items() if not m.error}
    check_maps(context, part, part.root, good)


def check_timed(context: Context, part: TimedPairs) -> None:
    """Check sequences of images and depth maps with times.

    Args:
        context (Context): Of this run.
        part (TimedPairs): Their folder.
    """
    if not present(context, part):
        return
    rows: Dict[str, List[str]] = {'rgb.txt': [], 'depth.txt': []}
    sequences = 0
    for name in _scenes(context, part.root):
        here = osp.join(part.root, name)
        if not osp.isdir(context.path(osp.join(here, 'rgb'))):
            continue
        sequences += 1
        for list_name, files in rows.items():
            files += _timed(context, part, here, list_name)
    if not sequences:
        _say_empty(context, part, part.root, '<sequence>/rgb')
        return
    for list_name, files in rows.items():
        what = 'image' if list_name == 'rgb.txt' else 'depth map'
        gone = [f for f in files if not osp.isfile(context.path(f))]
        _say_missing(context, part, part.root, len(files), gone, what)
        kept = [f for f in files if f not in set(gone)]
        chosen = context.pick(kept)
        paths = [context.path(f) for f in chosen]
        if list_name == 'rgb.txt':
            context.count(part, 'images', len(files), None, part.root)
            found = context.run(part, picture_error, paths)
            broken_pictures(context, part, part.root, dict(zip(chosen, found)))
            continue
        read = partial(read_depth, scale=part.scale)
        maps = dict(zip(chosen, context.run(part, read, paths)))
        errors = {name: m.error for name, m in maps.items()}
        broken_pictures(context, part, part.root, errors, 'depth maps')
        good = {name: m for name, m in maps.items() if not m.error}
        check_maps(context, part, part.root, good)


def _timed(context: Context, part: Part, folder: str, name: str) -> List[str]:
    """Files of a list of times, relative to the root of the set."""
    where = osp.join(folder, name)
    try:
        with open(context.path(where), encoding='utf-8') as file:
            lines = [line.split() for line in file]
    except (OSError, ValueError) as error:
        text = f'The list cannot be read: {error}.'
        context.say('error', 'list format', part, where, text)
        return []
    rows = [words for words in lines if words and words[0][0] != '#']
    broken = [' '.join(words) for words in rows if len(words) != 2]
    if broken:
        context.say(
            'error',
            'list format',
            part,
            where,
            f'{len(broken):,} lines are not "time file".',
            '',
            broken,
        )
    return [osp.join(folder, w[1]) for w in rows if len(w) == 2]


def check_points(context: Context, part: PointList) -> None:
    """Check a list of images with a pair of points each.

    Args:
        context (Context): Of this run.
        part (PointList): The list.
    """
    if not present(context, part):
        return
    where = part.list_file
    path = context.path(where)
    with open(path, encoding='utf-8', errors='replace') as file:
        lines = file.read().rstrip().splitlines()
    names = [osp.normpath(line.strip()) for line in lines[::2]]
    context.count(part, 'images', len(names), part.count, where)
    broken = [
        f'line {2 * i + 2}: {line}'
        for i, line in enumerate(lines[1::2])
        if not _are_points(line)
    ]
    if len(lines) % 2:
        broken.append(f'line {len(lines)}: no line with points after it')
    if broken:
        context.say(
            'error',
            'list format',
            part,
            where,
            f'{len(broken):,} lines are not '
            '"yA,xA,yB,xB,relation,width,height".',
            '',
            broken,
        )
    files = {n: context.path(osp.join(part.root, n)) for n in names}
    gone = [name for name, full in files.items() if not osp.isfile(full)]
    _say_missing(context, part, where, len(names), gone, 'image')
    lost = set(gone)
    chosen = context.pick([name for name in files if name not in lost])
    errors = context.run(part, picture_error, [files[n] for n in chosen])
    broken_pictures(context, part, where, dict(zip(chosen, errors)))


def _are_points(line: str) -> bool:
    """Whether two points lie in an image, and one is said to be nearer."""
    words = [word.strip().strip('"') for word in line.split(',')]
    if len(words) != _POINTS or words[4] not in ('<', '>'):
        return False
    try:
        *points, width, height = (float(w) for w in words[:4] + words[5:])
    except ValueError:
        return False
    size = (height, width) * 2
    return all(1 <= p <= most for p, most in zip(points, size))


def _scenes(context: Context, root: str) -> List[str]:
    return [osp.basename(f) for f in subfolders(context.path(root), 10_000)]


def _say_missing(
    context: Context,
    part: Part,
    where: str,
    total: int,
    names: List[str],
    what: str,
) -> None:
    if names:
        context.say(
            'error',
            f'no {what}',
            part,
            where,
            f'{len(names):,} of {total:,} {what}s are not there.',
            '',
            names,
        )


def _say_empty(context: Context, part: Part, where: str, pattern: str) -> None:
    text = f'There is no image in {pattern} of {where or "the root"}.'
    context.say('error', 'empty', part, where, text)
