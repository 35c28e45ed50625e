"""Check folders of images, and images with label maps."""

from functools import partial
from typing import Dict, List, Optional, Sequence, Set, Tuple

from .common import broken_pictures, listing_of, present, read_names
from .context import Context
from .parts import ImageFolder, LabelPairs, Part
from .pictures import Picture, picture_error, read_picture
from .render import how_to_get
from .scan import Listing, scan


def check_images(context: Context, part: ImageFolder) -> None:
    """Check a folder of images.

    Args:
        context (Context): Of this run.
        part (ImageFolder): The folder.
    """
    if not present(context, part):
        return
    listing = listing_of(context, part, part.folder, part.suffixes, True)
    names = list(listing.files)
    if part.flat:
        deeper = [name for name in names if '/' in name]
        names = [name for name in names if '/' not in name]
        if deeper:
            context.say(
                'error',
                'too deep',
                part,
                part.folder,
                f'{len(deeper):,} images lie in folders inside '
                f'{part.folder}, where they are not looked for.',
                f'Move them up into {part.folder}.',
                deeper,
            )
    context.count(part, 'images', len(names), part.count, part.folder)
    if part.classes is not None:
        folders = {name.split('/')[0] for name in names if '/' in name}
        where = part.folder
        context.count(part, 'folders', len(folders), part.classes, where)
    packed = listing.archives
    if packed and part.count is None:
        context.say(
            'warning',
            'archives',
            part,
            part.folder,
            f'{len(packed):,} packed files are not read: unpack them.',
            '',
            packed,
        )
    if not names:
        ends = ', '.join(part.suffixes)
        context.say(
            'error',
            'empty',
            part,
            part.folder,
            f'There is no image in {part.folder or "the folder"} '
            f'({ends}); {listing.others:,} other files.',
        )
        return
    chosen = context.pick(names)
    paths = [listing.files[name] for name in chosen]
    errors = context.run(part, picture_error, paths)
    broken_pictures(context, part, part.folder, dict(zip(chosen, errors)))


def check_pairs(context: Context, part: LabelPairs) -> None:
    """Check images with label maps.

    Args:
        context (Context): Of this run.
        part (LabelPairs): Their folders.
    """
    if not present(context, part):
        return
    images = listing_of(context, part, part.images, [part.image_suffix])
    labels = listing_of(context, part, part.labels, [part.label_suffix])
    if not labels.files and part.source_suffix:
        source = scan(context.path(part.labels), [part.source_suffix])
        if source.files:
            context.say(
                'error',
                'not converted',
                part,
                part.labels,
                f'The label maps are not converted yet: there are '
                f'{len(source.files):,} *{part.source_suffix} and no '
                f'*{part.label_suffix}.',
                how_to_get(context.layout, part.step),
            )
            return
    pairs = pair_up(context, part, images, labels)
    chosen = context.pick(pairs)
    read_labels = partial(read_picture, values=True)
    pictures = context.run(
        part, read_picture, [images.files[name] for name in chosen]
    )
    maps = context.run(
        part, read_labels, [labels.files[name] for name in chosen]
    )
    i_end, l_end = part.image_suffix, part.label_suffix
    by_image = {n + i_end: p.error for n, p in zip(chosen, pictures)}
    by_label = {n + l_end: p.error for n, p in zip(chosen, maps)}
    broken_pictures(context, part, part.images, by_image)
    broken_pictures(context, part, part.labels, by_label, 'label maps')
    whole = [
        (name, picture, label)
        for name, picture, label in zip(chosen, pictures, maps)
        if not (picture.error or label.error)
    ]
    check_sizes(context, part, part.labels, whole, part.noun)
    _check_values(context, part, {n + l_end: label for n, _, label in whole})


def pair_up(
    context: Context, part: LabelPairs, images: Listing, labels: Listing
) -> List[str]:
    """Say which images and maps stand alone.

    Args:
        context (Context): Of this run.
        part (LabelPairs): What is checked.
        images (Listing): Of its images.
        labels (Listing): Of its maps.

    Returns:
        List[str]: Names with an image and a map.
    """
    noun = part.noun
    if part.list_file:
        names = read_names(context, part, part.list_file)
        where = part.list_file
        context.count(part, 'names', len(names), part.count, where)
        no_image = [n for n in names if n not in images.files]
        no_label = [n for n in names if n not in labels.files]
        no_partner: List[str] = []
        subject = 'names of the list'
    else:
        names = list(images.files)
        where = part.images
        context.count(part, 'images', len(names), part.count, where)
        where = part.labels
        found = len(labels.files)
        context.count(part, f'{noun}s', found, part.count, where)
        where = part.images
        no_image = []
        no_label = [n for n in names if n not in labels.files]
        no_partner = [n for n in labels.files if n not in images.files]
        subject = 'images'
        if not names and not labels.files:
            context.say(
                'error',
                'empty',
                part,
                where,
                f'No *{part.image_suffix} and no *{part.label_suffix} here; '
                f'{images.others:,} other files.',
            )
    deeper = _shared_folder(no_label, images, labels)
    if deeper:
        context.say(
            'error',
            'too deep',
            part,
            where,
            f'The images lie in a folder more than the {noun}s: {deeper}',
            f'Move them up into {part.images}.',
        )
        return []
    for lacking, what, suffix in (
        (no_image, 'image', part.image_suffix),
        (no_label, noun, part.label_suffix),
    ):
        if lacking:
            context.say(
                'error',
                f'no {what}',
                part,
                where,
                f'{len(lacking):,} {subject} have no {what} in '
                f'{part.images if what == "image" else part.labels}.',
                '',
                [name + suffix for name in lacking],
            )
    if no_partner:
        context.say(
            'error',
            'no image',
            part,
            part.labels,
            f'{len(no_partner):,} {noun}s have no image in {part.images}.',
            '',
            [name + part.label_suffix for name in no_partner],
        )
    return [n for n in names if n in images.files and n in labels.files]


def _shared_folder(
    lonely: Sequence[str], images: Listing, labels: Listing
) -> Optional[str]:
    """Folder that all images without a label map lie in, if that is why."""
    if not lonely or len(lonely) < len(images.files):
        return None
    folders: Set[str] = {name.partition('/')[0] for name in lonely}
    if len(folders) == 1 and all('/' in name for name in lonely):
        if any(n.partition('/')[2] in labels.files for n in lonely):
            return folders.pop()
    return None


def check_sizes(
    context: Context,
    part: Part,
    where: str,
    whole: Sequence[Tuple[str, Picture, Picture]],
    noun: str,
) -> None:
    """Say which images and maps differ in size.

    Args:
        context (Context): Of this run.
        part (Part): What is checked; its ``size``, if it has one, is that of
            all images.
        where (str): Folder or file of the maps, relative to the root.
        whole (Sequence[tuple]): Name, image and map.
        noun (str): Word for a map.
    """
    wanted: Optional[Tuple[int, int]] = getattr(part, 'size', None)
    different: List[str] = []
    turned: List[str] = []
    unusual: List[str] = []
    for name, picture, label in whole:
        text = (
            f'{name}: image {picture.size[1]}x{picture.size[0]}, '
            f'{noun} {label.size[1]}x{label.size[0]}'
        )
        seen = picture.size[::-1] if picture.turned else picture.size
        if seen != label.size:
            # readers turn the image and leave the map
            (turned if picture.size == label.size else different).append(text)
        elif wanted and seen != wanted:
            unusual.append(text)
    for names, level, code, text in (
        (different, 'error', 'size mismatch', 'are not of one size'),
        (turned, 'warning', 'turned', 'differ: EXIF turns the image'),
        (unusual, 'error', 'size', f'are not of height, width {wanted}'),
    ):
        if names:
            context.say(
                level,
                code,
                part,
                where,
                f'{len(names):,} of {len(whole):,} opened pairs {text}.',
                '',
                names,
            )


def _check_values(
    context: Context, part: LabelPairs, labels: Dict[str, Picture]
) -> None:
    low, high = part.classes
    allowed = {*range(low, high + 1)}
    allowed |= set() if part.ignore is None else {part.ignore}
    colour, wrong = [], []
    for name, label in labels.items():
        if label.values is None:
            colour.append(f'{name}: {label.mode}')
        elif not label.values <= allowed:
            values = sorted(label.values - allowed)
            shown = ', '.join(str(v) for v in values[:10])
            wrong.append(f'{name}: {shown}{", ..." if values[10:] else ""}')
    if colour:
        context.say(
            'error',
            'colour labels',
            part,
            part.labels,
            f'{len(colour):,} of {len(labels):,} opened label maps are '
            'colour pictures, not maps of numbers.',
            '',
            colour,
        )
    if wrong:
        context.say(
            'error',
            'label values',
            part,
            part.labels,
            f'{len(wrong):,} of {len(labels):,} opened label maps hold other '
            f'values than {part.values}.',
            '',
            wrong,
        )
