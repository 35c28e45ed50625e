"""Depth metrics as pure functions: regions, alignment, sums, order of pairs.

An image is reduced to a short vector of sums (:func:`depth_sums`), from which
every metric follows (:func:`metrics_from_sums`). Sums of several images, or
of several processes, simply add up.
"""

from .alignment import (
    ALIGNMENTS,
    Alignment,
    align_depth,
    fit_alignment,
)
from .ordinal import wrong_pairs
from .regions import (
    CROPS,
    KB_SIZE,
    NYU_SIZE,
    Region,
    crop_region,
    evaluation_region,
    kb_region,
)
from .robust import robust_alignment
from .sums import (
    EXTRA_METRIC_NAMES,
    METRIC_NAMES,
    SUM_NAMES,
    check_metric_names,
    clean_prediction,
    depth_sums,
    is_scored,
    metrics_from_sums,
    reduce_sums,
    silog_focus,
    valid_pixels,
)

__all__ = [
    'ALIGNMENTS',
    'CROPS',
    'EXTRA_METRIC_NAMES',
    'KB_SIZE',
    'METRIC_NAMES',
    'NYU_SIZE',
    'SUM_NAMES',
    'Alignment',
    'Region',
    'align_depth',
    'check_metric_names',
    'clean_prediction',
    'crop_region',
    'depth_sums',
    'evaluation_region',
    'fit_alignment',
    'is_scored',
    'kb_region',
    'metrics_from_sums',
    'reduce_sums',
    'robust_alignment',
    'silog_focus',
    'valid_pixels',
    'wrong_pairs',
]
