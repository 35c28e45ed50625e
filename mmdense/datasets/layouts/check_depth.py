"""Check images with depth: pairs, lists, and the labelled part of NYU."""

import math
import os.path as osp
from functools import partial
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from .check_images import check_sizes, pair_up
from .common import broken_pictures, listing_of, present
from .context import RARE, Context
from .depth_files import DepthMap, camera_factor, read_depth
from .parts import Part
from .parts_depth import DepthList, DepthPairs
from .pictures import Picture, read_picture

Range = Optional[Tuple[float, float]]


def check_depth_pairs(context: Context, part: DepthPairs) -> None:
    """Check images with depth maps.

    Args:
        context (Context): Of this run.
        part (DepthPairs): Their folders.
    """
    if not present(context, part):
        return
    images = listing_of(context, part, part.images, [part.image_suffix])
    depths = listing_of(context, part, part.labels, [part.label_suffix])
    names = pair_up(context, part, images, depths)
    cameras: Dict[str, str] = {}
    if part.cameras:
        ends = [part.camera_suffix]
        cameras = listing_of(context, part, part.cameras, ends).files
        lonely = [n + part.camera_suffix for n in names if n not in cameras]
        if lonely:
            context.say(
                'error',
                'no camera',
                part,
                part.cameras,
                f'{len(lonely):,} images have no camera file: their '
                'disparity cannot be turned into depth.',
                '',
                lonely,
            )
        names = [name for name in names if name in cameras]
        _check_cameras(context, part, cameras, context.pick(names))
    chosen = context.pick(names)
    _open_pairs(
        context,
        part,
        {n + part.image_suffix: images.files[n] for n in chosen},
        {n + part.label_suffix: depths.files[n] for n in chosen},
        part.images,
        part.labels,
        [cameras.get(n) for n in chosen],
        part.bits,
    )


def _check_cameras(
    context: Context,
    part: DepthPairs,
    cameras: Dict[str, str],
    names: Sequence[str],
) -> None:
    wrong = [
        name + part.camera_suffix
        for name in names
        if not math.isfinite(camera_factor(cameras[name]))
    ]
    if wrong:
        context.say(
            'error',
            'broken camera',
            part,
            part.cameras,
            f'{len(wrong):,} of {len(names):,} opened camera files give no '
            'extrinsic.baseline and intrinsic.fx above 0.',
            'Fetch them again.',
            wrong,
        )


def _open_pairs(
    context: Context,
    part: Part,
    images: Dict[str, str],
    depths: Dict[str, str],
    image_where: str,
    depth_where: str,
    cameras: Sequence[Optional[str]] = (),
    bits: int = 16,
) -> None:
    """Open images and maps, both path by name, in the same order."""
    scale = getattr(part, 'scale', 1.0)
    sees = list(cameras) or [None] * len(depths)
    pictures = context.run(part, read_picture, list(images.values()))
    jobs = list(zip(depths.values(), sees))
    maps = context.run(part, partial(_read_job, scale, bits), jobs)
    errors = {n: p.error for n, p in zip(images, pictures)}
    broken_pictures(context, part, image_where, errors)
    errors = {n: m.error for n, m in zip(depths, maps)}
    broken_pictures(context, part, depth_where, errors, 'depth maps')
    whole = [
        (name, picture, one)
        for name, picture, one in zip(depths, pictures, maps)
        if not (picture.error or one.error)
    ]
    check_sizes(
        context,
        part,
        depth_where,
        [(n, p, Picture(size=m.size)) for n, p, m in whole if any(m.size)],
        'depth map',
    )
    found = {n: m for n, m in zip(depths, maps) if not m.error}
    check_maps(context, part, depth_where, found)


def _read_job(
    scale: float, bits: int, job: Tuple[str, Optional[str]]
) -> DepthMap:
    return read_depth(job[0], scale, bits, job[1])


def check_maps(
    context: Context, part: Part, where: str, maps: Dict[str, DepthMap]
) -> None:
    """Check that maps are maps of depth, in metres.

    Args:
        context (Context): Of this run.
        part (Part): With ``plausible``.
        where (str): Their folder or file, relative to the root.
        maps (Dict[str, DepthMap]): By name; those that could be read.
    """
    pictures = [f'{n}: {m.form}' for n, m in maps.items() if m.form]
    if pictures:
        context.say(
            'error',
            'no depth',
            part,
            where,
            f'{len(pictures):,} of {len(maps):,} opened depth maps are '
            'pictures, not numbers of 16 bits or more.',
            'These may be coloured or 8-bit copies for looking at; fetch '
            'the maps themselves.',
            pictures,
        )
    good = {n: m for n, m in maps.items() if not m.form}
    empty = [n for n, m in good.items() if not math.isfinite(m.median)]
    if empty:
        context.say(
            'warning' if len(empty) < max(RARE * len(good), 2) else 'error',
            'all invalid',
            part,
            where,
            f'{len(empty):,} of {len(good):,} opened depth maps have no '
            'pixel with depth; training passes them over.',
            '',
            empty,
        )
    medians = [m.median for m in good.values() if math.isfinite(m.median)]
    check_unit(context, part, where, medians)


def check_unit(
    context: Context, part: Part, where: str, medians: Sequence[float]
) -> None:
    """Warn if depth seems not to be in metres.

    Args:
        context (Context): Of this run.
        part (Part): With ``plausible``.
        where (str): Folder or file, relative to the root.
        medians (Sequence[float]): Of each opened map, in supposed metres.
    """
    plausible: Range = getattr(part, 'plausible', None)
    if plausible is None or not len(medians):
        return
    median = float(np.median(medians))
    low, high = plausible
    if low <= median <= high:
        return
    factor = _factor(median, plausible)
    fix = 'Look at some with tools/analysis_tools/browse_depth.py.'
    if factor:
        fix = f'Suspected factor: {factor}. {fix}'
    context.say(
        'warning',
        'unit',
        part,
        where,
        f'The median depth is {median:.4g} m in the unit that is read here, '
        f'outside of the plausible {low:g} to {high:g} m.',
        fix,
    )


def _factor(median: float, plausible: Tuple[float, float]) -> Optional[str]:
    try:
        # with mmseg, which a checker does without otherwise
        from ..depth.units import suspected_factor
    except ImportError:
        return None
    return suspected_factor(median, plausible)


def check_depth_list(context: Context, part: DepthList) -> None:
    """Check a list of images, depth maps and focal lengths.

    Args:
        context (Context): Of this run.
        part (DepthList): The list.
    """
    if not present(context, part):
        return
    rows, without = _rows(context, part)
    where = part.list_file
    context.count(part, 'lines with depth', len(rows), part.count, where)
    if part.without is not None:
        context.count(part, 'without depth', without, part.without, where)
    pairs: List[Tuple[str, str, str, str]] = []
    lacking: Dict[str, List[str]] = {'image': [], 'depth map': []}
    for image, depth in rows:
        image_path = _find(
            context, part.image_roots, image, part.image_suffixes
        )
        depth_path = _find(context, part.depth_roots, depth)
        if image_path is None:
            lacking['image'].append(image)
        if depth_path is None:
            lacking['depth map'].append(depth)
        if image_path and depth_path:
            pairs.append((image, image_path, depth, depth_path))
    for what, names in lacking.items():
        roots = part.image_roots if what == 'image' else part.depth_roots
        if names:
            tried = ', '.join(root or 'the root' for root in roots)
            context.say(
                'error',
                f'no {what}',
                part,
                where,
                f'{len(names):,} of {len(rows):,} lines name {what}s that '
                f'are not there (looked for in {tried}).',
                '',
                names,
            )
    chosen = context.pick(pairs)
    _open_pairs(
        context,
        part,
        {image: path for image, path, _, _ in chosen},
        {depth: path for _, _, depth, path in chosen},
        where,
        where,
    )


def _rows(
    context: Context, part: DepthList
) -> Tuple[List[Tuple[str, str]], int]:
    """Image and depth of every line, and how many lines have no depth."""
    path = context.path(part.list_file)
    with open(path, encoding='utf-8', errors='replace') as file:
        lines = file.read().splitlines()
    rows: List[Tuple[str, str]] = []
    broken: List[str] = []
    without = 0
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) not in (2, 3) or (words[2:] and not _is_number(words)):
            broken.append(f'line {number}: {line}')
        elif words[1] == 'None':
            without += 1
        else:
            rows.append((words[0].lstrip('/'), words[1].lstrip('/')))
    if broken:
        context.say(
            'error',
            'list format',
            part,
            part.list_file,
            f'{len(broken):,} lines are not "image depth focal".',
            '',
            broken,
        )
    unique = list({depth: (image, depth) for image, depth in rows}.values())
    if len(unique) < len(rows):
        context.say(
            'warning',
            'listed twice',
            part,
            part.list_file,
            f'{len(rows) - len(unique):,} lines are in the list again.',
        )
    return unique, without


def _is_number(words: Sequence[str]) -> bool:
    try:
        return math.isfinite(float(words[2]))
    except ValueError:
        return False


def _find(
    context: Context,
    roots: Sequence[str],
    name: str,
    suffixes: Sequence[str] = (),
) -> Optional[str]:
    """The first place where a listed file is."""
    stem = osp.splitext(name)[0]
    for ending in (name, *(stem + suffix for suffix in suffixes)):
        for root in roots:
            path = osp.join(context.path(root), ending)
            if osp.isfile(path):
                return path
    return None
