"""Metrics of the toolboxes under the names and units of the tables."""

import math
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

PERCENT, POINTS = '%', 'points'
# last word of a raw name, without prefix -> (name, unit, factor)
_MMSEG = {name: (name, PERCENT, 1.0) for name in ('mIoU', 'aAcc', 'mAcc')}
_DEPTH = {
    'abs_rel': ('AbsRel', 'ratio', 1.0),
    'sq_rel': ('SqRel', 'm', 1.0),
    'rmse': ('RMSE', 'm', 1.0),
    'rmse_log': ('RMSElog', 'log-m', 1.0),
    'log10': ('log10', 'log10-m', 1.0),
    'd1': ('delta1', 'fraction', 1.0),
    'd2': ('delta2', 'fraction', 1.0),
    'd3': ('delta3', 'fraction', 1.0),
    'silog': ('SILog', '100*ln', 1.0),
    # share of pixels with a ratio > 1.25, of aligned relative depth
    'd1_error': ('delta1_error', PERCENT, 1.0),
    'whdr': ('WHDR', PERCENT, 1.0),
    'abs_rel_dev_after_affine_alignment': (
        'abs_rel_dev_after_affine_alignment',
        'ratio',
        1.0,
    ),
}
# of a benchmark of the model itself
_STATISTICS = {
    'latency': ('latency', 'ms', 1.0),
    'params': ('params', 'M', 1.0),
}
_DETECTION_KINDS = {'bbox': 'bbox', 'segm': 'mask'}
# of mmdet's VOCMetric (boxes) and CityScapesMetric (masks)
_SHORT_DETECTION = {
    # at its only threshold, 0.5; the metric rounds its AP50 to three digits
    'pascal_voc/mAP': 'bbox_AP50',
    'pascal_voc/AP50': 'bbox_AP50',
    'pascal_voc/AP75': 'bbox_AP75',
    'cityscapes/mAP': 'mask_AP',
    'cityscapes/AP@50': 'mask_AP50',
}
# the number that stands for a run, best candidate first
PRIMARY = (
    *('mIoU', 'bbox_AP', 'mask_AP', 'bbox_AP50', 'J_and_F_mean'),
    *('AbsRel', 'RMSE', 'delta1'),
    *('abs_rel_dev_after_affine_alignment', 'WHDR', 'delta1_error'),
)
# name in a table -> name here
ALIASES = {'pixAcc': 'aAcc'}
# factor from a unit to fractions; units that are not here do not convert
_TO_FRACTION = {PERCENT: 0.01, POINTS: 0.01, 'fraction': 1.0, 'ratio': 1.0}


class NamedMetrics(NamedTuple):
    """Metrics of a run in the spelling of the tables.

    Attributes:
        values (Dict[str, float or None]): Name to value; None where it is
            not finite.
        units (Dict[str, str]): Name to unit.
        raw (Dict[str, float or None]): As the evaluator gave them.
        not_finite (List[str]): Raw names of NaN and infinite values.
    """

    values: Dict[str, Optional[float]]
    units: Dict[str, str]
    raw: Dict[str, Optional[float]]
    not_finite: List[str]


def table_name(raw: str) -> Optional[Tuple[str, str, float]]:
    """Name, unit and factor of a metric.

    Args:
        raw (str): As an evaluator of mmseg, mmdet or mmdense names it, such
            as ``'coco/bbox_mAP_50'`` (a fraction) or ``'mIoU'`` (percent).

    Returns:
        Tuple[str, str, float] or None: Name and unit in the tables, and the
        factor from the raw value to that unit; None if no table has it.
    """
    if raw in _SHORT_DETECTION:
        return _SHORT_DETECTION[raw], POINTS, 100.0
    last = raw.rsplit('/', 1)[-1]
    match = re.fullmatch(r'(bbox|segm)_mAP(?:_(50|75|s|m|l))?', last)
    if match:
        kind = _DETECTION_KINDS[match[1]]
        return f'{kind}_AP{match[2] or ""}', POINTS, 100.0
    if last in _MMSEG:
        return _MMSEG[last]
    return _DEPTH.get(last) or _STATISTICS.get(last)


def finite(value: Any) -> Optional[float]:
    """A number for JSON: None for NaN, infinities and what is no number."""
    if isinstance(value, (np.float16, np.float32)):
        # 3.46 and not 3.46000004
        value = np.format_float_scientific(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def name_metrics(raw: Mapping[str, Any]) -> NamedMetrics:
    """Translate the result of an evaluator.

    Args:
        raw (Mapping[str, Any]): Raw name to number; other entries, such as
            nested ones, are left out.

    Returns:
        NamedMetrics: Values in the units of the tables, rounded to eight
        digits. Of two raw names with the same translation the first counts.
    """
    named = NamedMetrics({}, {}, {}, [])
    for key, value in raw.items():
        number = finite(value)
        if number is None:
            try:
                float(value)
            except (TypeError, ValueError):
                continue
            named.not_finite.append(key)
        named.raw[key] = number
        found = table_name(key)
        if found is None or found[0] in named.values:
            continue
        name, unit, factor = found
        # 0.4120000001 for what the evaluator printed as 0.412
        scaled = None if number is None else round(number * factor, 8)
        named.values[name] = scaled
        named.units[name] = unit
    return named


def metrics_of_sets(
    raw: Mapping[str, Any], sets: Mapping[str, str]
) -> Dict[str, Dict[str, Any]]:
    """Metrics of each data set of a test that scores several.

    Args:
        raw (Mapping[str, Any]): Raw name to number.
        sets (Mapping[str, str]): Data set to the word of raw names that
            stands for it: ``{'NYU Depth V2': 'nyu'}`` for ``'nyu/d1'`` and
            ``'zero_shot/nyu/d1'``.

    Returns:
        Dict[str, Dict[str, Any]]: Data set to its metrics under their raw
        names; without sets that have none.
    """
    found = {
        name: {k: v for k, v in raw.items() if f'/{word}/' in f'/{k}'}
        for name, word in sets.items()
    }
    return {name: metrics for name, metrics in found.items() if metrics}


def primary(values: Mapping[str, Any]) -> Optional[str]:
    """The metric that stands for a run, None if there is none."""
    for name in PRIMARY:
        if name in values:
            return name
    return next(iter(values), None)


def convert(value: float, unit: str, to: str) -> Optional[float]:
    """Express a value in another unit.

    Args:
        value (float): The value.
        unit (str): Its unit.
        to (str): ``'%'``, ``'points'`` or ``'fraction'``, or the same unit.

    Returns:
        float or None: None if the units do not convert.
    """
    if unit == to:
        return value
    if unit not in _TO_FRACTION or to not in _TO_FRACTION:
        return None
    return value * (_TO_FRACTION[unit] / _TO_FRACTION[to])
