"""Heads of self-supervised methods."""

from .local_global_head import LocalGlobalHead

__all__ = ['LocalGlobalHead']
