"""models depthers of mmdense."""

from .base_depth_head import BaseDepthHead
from .depth_estimator import DepthEstimator
from .up_proj_depth_head import UnpoolConv2d, UpProjBlock, UpProjDepthHead
from .uper_depth_head import UPerDepthHead

__all__ = [
    'BaseDepthHead',
    'DepthEstimator',
    'UPerDepthHead',
    'UnpoolConv2d',
    'UpProjBlock',
    'UpProjDepthHead',
]
