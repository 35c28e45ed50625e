"""Is the depth of a data set in metres?"""

import math
from fractions import Fraction
from itertools import permutations
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from .errors import BadSampleError

#: Units in which depth is stored, per metre: metres, centimetres, KITTI,
#: millimetres, TUM RGB-D.
UNITS_PER_METRE = (1, 100, 256, 1000, 5000)
# files are stored in one of them and read as metres, or the other way round;
# centimetres and millimetres are mixed up as well, others hardly ever
_UNLIKELY = math.log(2)
_MIXED_UP = {100, 1000}
# files read for the check
_FILES = 3


def suspected_factor(
    median: float, plausible: Sequence[float]
) -> Optional[str]:
    """Factor that would make a depth plausible.

    Args:
        median (float): Median depth in supposed metres, positive.
        plausible (Sequence[float]): Smallest and largest plausible median
            in metres.

    Returns:
        str, optional: For instance '1/1000', '256' or '10', the ratio of two
        of :data:`UNITS_PER_METRE` that brings the median nearest to the
        (geometric) middle of the range; unusual pairs count as twice as far.
        None if none brings it into the range.
    """
    low, high = plausible
    middle = math.log(low * high) / 2
    found: List[Tuple[float, str]] = []
    for read, stored in permutations(UNITS_PER_METRE, 2):
        value = median * read / stored
        if low <= value <= high:
            far = abs(math.log(value) - middle)
            if 1 not in (read, stored) and {read, stored} != _MIXED_UP:
                far += _UNLIKELY
            found.append((far, str(Fraction(read, stored))))
    return min(found)[1] if found else None


def unit_problem(dataset: Any, plausible: Sequence[float]) -> Optional[str]:
    """Look at a few depth maps of a data set.

    Files that cannot be read are passed over here.

    Args:
        dataset (Any): With ``pipeline`` and ``get_data_info``.
        plausible (Sequence[float]): Smallest and largest plausible median
            in metres.

    Returns:
        str, optional: The problem; None if there is none, or nothing can be
        looked at.
    """
    loader = next(
        (
            step
            for step in dataset.pipeline.transforms
            if getattr(step, 'loads_depth', False)
        ),
        None,
    )
    count = len(dataset)
    if loader is None or not count:
        return None
    medians: List[Tuple[float, str]] = []
    for part in range(_FILES):
        index = part * (count - 1) // (_FILES - 1)
        info = dataset.get_data_info(index)
        try:
            depth = loader(info)['gt_depth_map']
        except (BadSampleError, OSError):
            continue
        valid = depth[depth > 0]
        if valid.size:
            path = info.get('depth_map_path') or info['img_path']
            medians.append((float(np.median(valid)), str(path)))
    if not medians:
        return None
    median, path = sorted(medians)[len(medians) // 2]
    low, high = plausible
    if low <= median <= high:
        return None
    factor = suspected_factor(median, plausible)
    key = getattr(dataset, 'factor_key', None)
    if not key:
        name = type(loader).__name__
        key = f'depth_rescale_factor of {name} in the pipeline'
    if not hasattr(loader, 'depth_rescale_factor'):
        key = ''
    advice = f'check {key or "the files"}'
    if factor:
        advice = f'depth seems to be off by a factor of {factor}' + (
            f': multiply {key} by it' if key else '; check the files'
        )
    return (
        f'{path}: the median depth is {median:.4g} m, outside of the '
        f'plausible {low:g} to {high:g} m; {advice} (or set plausible_range '
        'of the data set)'
    )
