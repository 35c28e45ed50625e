"""Layouts of data sets on the disk, and a checker for them."""

from .checker import (
    LAYOUTS,
    check_dataset,
    depth_layout,
    get_layout,
    segmentation_layout,
)
from .parts import (
    CocoFile,
    H5Folder,
    ImageFolder,
    LabelPairs,
    Layout,
    Part,
    Step,
    VocList,
)
from .parts_depth import (
    DepthList,
    DepthPairs,
    LabelledMat,
    PointList,
    ScenePairs,
    TimedPairs,
)
from .render import as_markdown, as_text, how_to_get
from .report import Finding, Report

__all__ = [
    'LAYOUTS',
    'CocoFile',
    'DepthList',
    'DepthPairs',
    'Finding',
    'H5Folder',
    'ImageFolder',
    'LabelPairs',
    'LabelledMat',
    'Layout',
    'Part',
    'PointList',
    'Report',
    'ScenePairs',
    'Step',
    'TimedPairs',
    'VocList',
    'as_markdown',
    'as_text',
    'check_dataset',
    'depth_layout',
    'get_layout',
    'how_to_get',
    'segmentation_layout',
]
