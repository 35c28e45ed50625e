"""Is the depth of a data set in metres?"""

import math
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from .errors import BadSampleError

#: Units in which depth is stored, per metre: centimetres, KITTI,
#: millimetres, TUM RGB-D.
UNITS_PER_METRE = (100, 256, 1000, 5000)
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
        str, optional: For instance '1/1000' or '256', the one of
        :data:`UNITS_PER_METRE` or its inverse that brings the median nearest
        to the (geometric) middle of the range. None if none brings it into
        the range.
    """
    low, high = plausible
    middle = math.log(low * high) / 2
    found: List[Tuple[float, str]] = []
    for units in UNITS_PER_METRE:
        for factor, text in ((1 / units, f'1/{units}'), (units, f'{units}')):
            value = median * factor
            if low <= value <= high:
                found.append((abs(math.log(value) - middle), text))
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
    advice = (
        f'depth seems to be off by a factor of {factor}: multiply '
        'depth_rescale_factor by it'
        if factor
        else 'check depth_rescale_factor'
    )
    return (
        f'{path}: the median depth is {median:.4g} m, outside of the '
        f'plausible {low:g} to {high:g} m; {advice} (or set plausible_range '
        'of the data set)'
    )
