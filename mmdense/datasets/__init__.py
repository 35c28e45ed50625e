"""Data sets, samplers and transforms of mmdense."""

from . import transforms

__all__ = ['transforms']
