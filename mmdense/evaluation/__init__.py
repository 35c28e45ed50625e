"""Evaluation of mmdense: pure functions and the metrics built on them."""

from . import functional, metrics

__all__ = ['functional', 'metrics']
