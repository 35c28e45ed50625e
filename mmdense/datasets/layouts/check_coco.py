"""Check annotation files in the form of COCO."""

import json
import os.path as osp
from collections import Counter
from typing import Any, Dict, List, Optional, Tuple

from .boxes import Corners, check_corners, compare_sizes
from .common import broken_pictures, listing_of, present
from .context import Context
from .masks import MaskError, check_mask
from .parts import IMAGE_SUFFIXES, CocoFile
from .pictures import read_picture
from .rows import NEEDED, broken_entries


def check_coco(context: Context, part: CocoFile) -> None:
    """Check an annotation file in the form of COCO.

    Args:
        context (Context): Of this run.
        part (CocoFile): The file and the folder of its images.
    """
    if not present(context, part):
        return
    data = _load(context, part)
    if data is None:
        return
    images = {image['id']: image for image in data['images']}
    notes = data['annotations']
    where = part.file
    annotated = {note['image_id'] for note in notes}
    for what, found, published in (
        ('images', len(data['images']), part.count),
        ('annotated', len(annotated & images.keys()), part.annotated),
        ('instances', len(notes), part.instances),
    ):
        context.count(part, what, found, published, where)
    kinds = len(data['categories'])
    context.same(part, 'categories', kinds, part.categories, where)
    if not images:
        text = 'The file lists no image.'
        context.say('error', 'empty', part, where, text)
    for what, rows in (('images', data['images']), ('annotations', notes)):
        twice = [i for i, n in Counter(r['id'] for r in rows).items() if n > 1]
        if twice:
            context.say(
                'error',
                'repeated id',
                part,
                where,
                f'{len(twice):,} ids of {what} occur more than once.',
                '',
                [f'id {i}' for i in twice],
            )
    files = _check_files(context, part, images)
    _check_references(context, part, data, images)
    boxes = (
        (
            f'annotation {note["id"]}',
            _corners(note['bbox']),
            _size(images[note['image_id']]),
        )
        for note in notes
        if note['image_id'] in images
    )
    check_corners(context, part, where, boxes)
    _check_masks(context, part, notes, images)
    _check_pictures(context, part, images, files)


def _size(image: Dict[str, Any]) -> Tuple[int, int]:
    return image['height'], image['width']


def _corners(box: List[float]) -> Corners:
    x, y, width, height = (float(value) for value in box)
    return x, y, x + width, y + height


def _load(context: Context, part: CocoFile) -> Optional[Dict[str, Any]]:
    """Read the file; says why if readers could not use it."""
    problem = ''
    try:
        with open(context.path(part.file), encoding='utf-8') as file:
            data = json.load(file)
    except OSError as error:
        problem = f'it cannot be read ({error.strerror})'
    except (ValueError, RecursionError) as error:
        problem = f'it is cut or no json ({error})'
    else:
        if not isinstance(data, dict):
            problem = f'it holds a {type(data).__name__} instead of lists'
            problem += f' under the names {", ".join(NEEDED)}'
        else:
            lacking = [k for k in NEEDED if not isinstance(data.get(k), list)]
            if lacking:
                problem = f'there is no list {lacking[0]!r} in it'
    fix = 'Make or fetch it again.'
    where = part.file
    if problem:
        text = f'The annotation file cannot be used: {problem}.'
        context.say('error', 'broken json', part, where, text, fix)
        return None
    fine = True
    for key in NEEDED:
        broken = broken_entries(data[key], key)
        if broken:
            fine = False
            text = f'{len(broken):,} of {len(data[key]):,} entries of {key!r}'
            text += ' cannot be used; nothing else of the file was checked.'
            context.say('error', 'broken entry', part, where, text, '', broken)
    return data if fine else None


def _check_files(
    context: Context, part: CocoFile, images: Dict[Any, Dict[str, Any]]
) -> Dict[str, str]:
    """Compare the listed images with the folder; returns those there."""
    listing = listing_of(context, part, part.images, IMAGE_SUFFIXES, True)
    listed = {image['file_name'] for image in images.values()}
    missing = sorted(listed - listing.files.keys())
    # names with an ending that no picture has
    missing = [
        n
        for n in missing
        if not osp.isfile(context.path(f'{part.images}/{n}'))
    ]
    if missing:
        lower = {name.lower() for name in listing.files}
        bases = {osp.basename(name) for name in listing.files}
        fix = ''
        if all(name.lower() in lower for name in missing):
            fix = 'They are there in another case: rename them.'
        elif all(osp.basename(name) in bases for name in missing):
            fix = f'They are in other folders of {part.images}: move them.'
        context.say(
            'error',
            'no image',
            part,
            part.file,
            f'{len(missing):,} of {len(listed):,} listed images are not in '
            f'{part.images}.',
            fix,
            missing,
        )
    extra = sorted(listing.files.keys() - listed)
    if extra:
        context.say(
            'warning',
            'not listed',
            part,
            part.images,
            f'{len(extra):,} images are not in {part.file}; they are not '
            'read.',
            '',
            extra,
        )
    return {n: listing.files[n] for n in sorted(listed) if n in listing.files}


def _check_references(
    context: Context,
    part: CocoFile,
    data: Dict[str, Any],
    images: Dict[Any, Dict[str, Any]],
) -> None:
    known = {category['id'] for category in data['categories']}
    for key, allowed in (('image_id', images.keys()), ('category_id', known)):
        wrong = [n for n in data['annotations'] if n[key] not in allowed]
        if wrong:
            context.say(
                'error',
                f'unknown {key}',
                part,
                part.file,
                f'{len(wrong):,} annotations name a {key} that the file '
                'does not define.',
                '',
                [f'annotation {n["id"]}: {key} {n[key]}' for n in wrong],
            )


def _check_masks(
    context: Context,
    part: CocoFile,
    notes: List[Dict[str, Any]],
    images: Dict[Any, Dict[str, Any]],
) -> None:
    if not part.masks:
        return
    wrong = []
    chosen = [n for n in context.pick(notes) if n['image_id'] in images]
    for note in chosen:
        image = images[note['image_id']]
        try:
            mask = note.get('segmentation')
            check_mask(mask, image['height'], image['width'])
        except MaskError as error:
            wrong.append(f'annotation {note["id"]}: {error}')
    if wrong:
        context.say(
            'error',
            'broken mask',
            part,
            part.file,
            f'{len(wrong):,} of {len(chosen):,} decoded masks do not fit.',
            '',
            wrong,
        )


def _check_pictures(
    context: Context,
    part: CocoFile,
    images: Dict[Any, Dict[str, Any]],
    files: Dict[str, str],
) -> None:
    sizes = {i['file_name']: _size(i) for i in images.values()}
    chosen = context.pick(list(files))
    pictures = context.run(part, read_picture, [files[n] for n in chosen])
    found = dict(zip(chosen, pictures))
    errors = {name: picture.error for name, picture in found.items()}
    broken_pictures(context, part, part.images, errors)
    compare_sizes(context, part, part.file, found, sizes)
