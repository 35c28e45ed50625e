"""Losses."""

from .berhu_loss import BerHuLoss
from .depth_gradient_loss import DepthGradientLoss
from .depth_loss import DepthLoss
from .dino_loss import DINOLoss
from .local_global_loss import LocalGlobalLoss
from .moby_loss import MoBYLoss
from .patch_loss import PatchContrastLoss, PatchDistillationLoss, PatchGroup
from .silog_loss import SILogLoss
from .ssi_loss import SSILoss

__all__ = [
    'BerHuLoss',
    'DINOLoss',
    'DepthGradientLoss',
    'DepthLoss',
    'LocalGlobalLoss',
    'MoBYLoss',
    'PatchContrastLoss',
    'PatchDistillationLoss',
    'PatchGroup',
    'SILogLoss',
    'SSILoss',
]
