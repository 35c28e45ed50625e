"""Hooks and optimiser parts of mmdense."""

from . import hooks, optimizers

__all__ = ['hooks', 'optimizers']
