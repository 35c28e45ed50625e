"""Depth data sets, their loaders and transforms."""

from .base import DepthDataset
from .cityscapes import CityscapesDepth
from .depth_folder import DepthFolder
from .diw import DIW
from .errors import (
    BadSampleError,
    DepthFileError,
    DepthSampleError,
    MissingDepthError,
)
from .kitti import KITTIDepth
from .loading import (
    LoadDepth,
    LoadDisparity,
    LoadImage,
)
from .loading_h5 import (
    LoadDepthH5,
    LoadDepthMat,
)
from .mixed import MixedDepth
from .nyu import NYUDepth
from .nyu_depth_h5 import NYUDepthH5
from .nyu_mat import NYUDepthMat
from .transforms import (
    CenterCrop,
    DPTResize,
    FixedCrop,
    KBCrop,
    PackDepthInputs,
    RandomGammaBrightnessColor,
    RandomRotateDepth,
    RandomScaleDepth,
    ResetOriShape,
)
from .zero_shot import ETH3DDepth, SintelDepth, TUMDepth
from .zero_shot_loading import LoadETH3DDepth, LoadSintelDepth

__all__ = [
    'BadSampleError',
    'CenterCrop',
    'CityscapesDepth',
    'DIW',
    'DPTResize',
    'DepthDataset',
    'DepthFileError',
    'DepthFolder',
    'DepthSampleError',
    'ETH3DDepth',
    'FixedCrop',
    'KBCrop',
    'KITTIDepth',
    'LoadDepth',
    'LoadDepthH5',
    'LoadDepthMat',
    'LoadDisparity',
    'LoadETH3DDepth',
    'LoadImage',
    'LoadSintelDepth',
    'MissingDepthError',
    'MixedDepth',
    'NYUDepth',
    'NYUDepthH5',
    'NYUDepthMat',
    'PackDepthInputs',
    'RandomGammaBrightnessColor',
    'RandomRotateDepth',
    'RandomScaleDepth',
    'ResetOriShape',
    'SintelDepth',
    'TUMDepth',
]
