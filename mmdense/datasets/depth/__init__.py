"""datasets depth of mmdense."""

from .depth_folder import DepthFolder
from .loading import DepthFileError, LoadDepth, LoadDepthH5
from .nyu_depth_h5 import NYUDepthH5
from .transforms import (
    CenterCrop,
    FixedCrop,
    RandomGammaBrightnessColor,
    RandomRotateDepth,
    RandomScaleDepth,
    ResetOriShape,
)

__all__ = [
    'CenterCrop',
    'DepthFileError',
    'DepthFolder',
    'FixedCrop',
    'LoadDepth',
    'LoadDepthH5',
    'NYUDepthH5',
    'RandomGammaBrightnessColor',
    'RandomRotateDepth',
    'RandomScaleDepth',
    'ResetOriShape',
]
