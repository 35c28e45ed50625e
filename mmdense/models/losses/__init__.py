"""Losses."""

from .berhu_loss import BerHuLoss
from .depth_gradient_loss import DepthGradientLoss
from .depth_loss import DepthLoss
from .local_global_loss import LocalGlobalLoss
from .silog_loss import SILogLoss

__all__ = [
    'BerHuLoss',
    'DepthGradientLoss',
    'DepthLoss',
    'LocalGlobalLoss',
    'SILogLoss',
]
