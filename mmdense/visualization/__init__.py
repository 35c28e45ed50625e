"""Pictures and reports."""

from .figures import color_depth, color_labels, curve_png, image_png
from .report import Report
from .scalars import read_scalars, series

__all__ = [
    'Report',
    'color_depth',
    'color_labels',
    'curve_png',
    'image_png',
    'read_scalars',
    'series',
]
