"""evaluation metrics of mmdense."""

from .depth_metric import DepthMetric
from .whdr_metric import WHDRMetric

__all__ = ['DepthMetric', 'WHDRMetric']
