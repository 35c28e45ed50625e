"""Rectangles of a map in which pixels are scored."""

from typing import NamedTuple, Sequence, Tuple

from torch import Tensor

KB_SIZE = (352, 1216)
NYU_SIZE = (480, 640)

# Rows from/to and columns from/to, as shares of the map.
_FRACTIONS = {
    'garg': (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    'kitti_eigen': (0.3324324, 0.91351351, 0.03594771, 0.96405229),
}
CROPS = ('none', 'nyu_eigen', 'kitti_eigen', 'garg')


class Region(NamedTuple):
    """Rectangle of a map: rows ``top:bottom``, columns ``left:right``."""

    top: int
    bottom: int
    left: int
    right: int

    def of(self, values: Tensor) -> Tensor:
        """The rectangle of ``values`` with shape ``(..., H, W)``."""
        return values[..., self.top : self.bottom, self.left : self.right]

    @property
    def size(self) -> Tuple[int, int]:
        """Height and width, 0 where empty."""
        return (
            max(self.bottom - self.top, 0),
            max(self.right - self.left, 0),
        )


def kb_region(shape: Sequence[int]) -> Region:
    """KITTI benchmark crop: 352x1216, at the bottom, centred.

    Args:
        shape (Sequence[int]): Height and width of the full map.

    Returns:
        Region: Rectangle in the full map.

    Raises:
        ValueError: If the map is smaller than the crop.
    """
    height, width = shape
    if height < KB_SIZE[0] or width < KB_SIZE[1]:
        raise ValueError(
            f'the KITTI benchmark crop needs maps of at least {KB_SIZE}, got '
            f'{(height, width)}; use full-size ground truth'
        )
    top, left = height - KB_SIZE[0], (width - KB_SIZE[1]) // 2
    return Region(top, height, left, left + KB_SIZE[1])


def crop_region(shape: Sequence[int], crop: str = 'none') -> Region:
    """Rectangle in which pixels are scored.

    Args:
        shape (Sequence[int]): Height and width of the map.
        crop (str): 'none'; 'nyu_eigen', the fixed rows 45:471 and columns
            41:601 of a 480x640 map (cut off at the border of smaller ones);
            'garg' and 'kitti_eigen', fixed shares of the map, truncated to
            whole pixels. Defaults to 'none'.

    Returns:
        Region: The rectangle.

    Raises:
        ValueError: If ``crop`` is unknown or nothing is left of the map.
    """
    height, width = int(shape[0]), int(shape[1])
    if crop == 'none':
        region = Region(0, height, 0, width)
    elif crop == 'nyu_eigen':
        region = Region(45, min(471, height), 41, min(601, width))
    elif crop in _FRACTIONS:
        rows, cols = _FRACTIONS[crop][:2], _FRACTIONS[crop][2:]
        region = Region(
            *(int(share * height) for share in rows),
            *(int(share * width) for share in cols),
        )
    else:
        raise ValueError(f'unknown crop {crop!r}, choose from {CROPS}')
    if 0 in region.size:
        raise ValueError(
            f'crop {crop!r} leaves nothing of a map of {(height, width)}'
        )
    return region


def evaluation_region(
    shape: Sequence[int],
    crop: str = 'none',
    kb_crop: bool = False,
    garg_on: str = 'kb',
) -> Region:
    """Scored rectangle of a full ground-truth map, with the KITTI cases.

    Args:
        shape (Sequence[int]): Height and width of the full map.
        crop (str): See :func:`crop_region`. Defaults to 'none'.
        kb_crop (bool): Whether predictions cover the KITTI benchmark crop
            only. Defaults to False.
        garg_on (str): For any ``crop``. 'kb': it is laid on the benchmark crop
            (Monocular-Depth-Estimation-Toolbox, AdaBins). 'full': on the full
            map, then cut to the benchmark crop (BTS, DPT). Defaults to 'kb'.

    Returns:
        Region: Rectangle in the full map.
    """
    if garg_on not in ('kb', 'full'):
        raise ValueError(f"garg_on={garg_on!r}, choose 'kb' or 'full'")
    if not kb_crop:
        return crop_region(shape, crop)
    kb = kb_region(shape)
    if garg_on == 'kb':
        inner = crop_region(kb.size, crop)
        return Region(
            kb.top + inner.top,
            kb.top + inner.bottom,
            kb.left + inner.left,
            kb.left + inner.right,
        )
    inner = crop_region(shape, crop)
    return Region(
        max(kb.top, inner.top),
        min(kb.bottom, inner.bottom),
        max(kb.left, inner.left),
        min(kb.right, inner.right),
    )
