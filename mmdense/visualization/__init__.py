"""Pictures and reports."""

from .depth import color_depth, depth_range, error_map, valid_depth
from .depth_panel import depth_legend, depth_panel, error_legend
from .depth_stats import DepthStatistics
from .depth_visualizer import DepthVisualizer
from .figures import color_labels, curve_png, image_png
from .point_cloud import backproject, pinhole, write_ply
from .report import Report
from .scalars import read_scalars, series

__all__ = [
    'DepthStatistics',
    'DepthVisualizer',
    'Report',
    'backproject',
    'color_depth',
    'color_labels',
    'curve_png',
    'depth_legend',
    'depth_panel',
    'depth_range',
    'error_legend',
    'error_map',
    'image_png',
    'pinhole',
    'read_scalars',
    'series',
    'valid_depth',
    'write_ply',
]
