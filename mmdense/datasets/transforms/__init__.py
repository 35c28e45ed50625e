"""Transforms of mmdense."""

from .multi_view_crops import MultiViewCrops
from .view_policy import ViewPolicy

__all__ = ['MultiViewCrops', 'ViewPolicy']
