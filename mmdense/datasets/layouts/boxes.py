"""Boxes and sizes that annotations give, whatever their format."""

from typing import Dict, Iterable, List, Tuple

from .context import RARE, Context
from .parts import Part
from .pictures import Picture

# pixels by which a box may leave its image: official files round
_SLACK = 2.0
Corners = Tuple[float, float, float, float]


def check_corners(
    context: Context,
    part: Part,
    where: str,
    boxes: Iterable[Tuple[str, Corners, Tuple[int, int]]],
) -> None:
    """Check that boxes are boxes and lie in their images.

    Args:
        context (Context): Of this run.
        part (Part): What is checked.
        where (str): File or folder of the boxes.
        boxes (Iterable[tuple]): Name for messages; left, top, right and
            bottom in pixels, finite; height and width of the image.
    """
    broken: List[str] = []
    outside: List[str] = []
    total = 0
    for name, box, (height, width) in boxes:
        total += 1
        left, top, right, bottom = box
        if right <= left or bottom <= top:
            broken.append(f'{name}: {box}')
        elif (
            min(left, top) < -_SLACK
            or right > width + _SLACK
            or bottom > height + _SLACK
        ):
            outside.append(f'{name}: {box}, image {width}x{height}')
    for names, code, text in (
        (broken, 'broken box', 'have no area'),
        (outside, 'box outside', 'leave their image'),
    ):
        if names:
            rare = len(names) < RARE * total
            context.say(
                'warning' if rare else 'error',
                code,
                part,
                where,
                f'{len(names):,} of {total:,} boxes {text} (left, top, '
                'right, bottom).',
                '',
                names,
            )


def compare_sizes(
    context: Context,
    part: Part,
    where: str,
    pictures: Dict[str, Picture],
    sizes: Dict[str, Tuple[int, int]],
) -> None:
    """Compare pictures with the sizes that annotations give.

    Args:
        context (Context): Of this run.
        part (Part): What is checked.
        where (str): File or folder of the annotations.
        pictures (Dict[str, Picture]): By name.
        sizes (Dict[str, Tuple[int, int]]): Height and width, by name.
    """
    wrong = [
        f'{name}: {picture.size[1]}x{picture.size[0]}, written down as '
        f'{sizes[name][1]}x{sizes[name][0]}'
        for name, picture in pictures.items()
        if not picture.error and picture.size != tuple(sizes[name])
    ]
    if wrong:
        rare = len(wrong) < RARE * len(pictures)
        context.say(
            'warning' if rare else 'error',
            'size mismatch',
            part,
            where,
            f'{len(wrong):,} of {len(pictures):,} opened images are of '
            'another size than the annotations say.',
            '',
            wrong,
        )
