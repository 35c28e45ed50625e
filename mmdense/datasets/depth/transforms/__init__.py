"""Transforms of the depth recipes."""

from .color import RandomGammaBrightnessColor
from .crops import CenterCrop, FixedCrop, KBCrop, ResetOriShape
from .formatting import PackDepthInputs
from .geometry import (
    DPTResize,
    RandomRotateDepth,
    RandomScaleDepth,
    dpt_size,
)

__all__ = [
    'CenterCrop',
    'DPTResize',
    'FixedCrop',
    'KBCrop',
    'PackDepthInputs',
    'RandomGammaBrightnessColor',
    'RandomRotateDepth',
    'RandomScaleDepth',
    'ResetOriShape',
    'dpt_size',
]
