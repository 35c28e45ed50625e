"""models depthers of mmdense."""

from .base_depth_head import BaseDepthHead
from .binsformer_head import BinsFormerDepthHead
from .depth_estimator import DepthEstimator
from .depth_output import DepthOutput
from .dpt_depth_head import DPTDepthHead
from .up_proj_depth_head import UnpoolConv2d, UpProjBlock, UpProjDepthHead
from .uper_depth_head import UPerDepthHead

__all__ = [
    'BaseDepthHead',
    'BinsFormerDepthHead',
    'DPTDepthHead',
    'DepthEstimator',
    'DepthOutput',
    'UPerDepthHead',
    'UnpoolConv2d',
    'UpProjBlock',
    'UpProjDepthHead',
]
