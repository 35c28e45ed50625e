"""Necks of self-supervised methods."""

from .token_projector import TokenProjector

__all__ = ['TokenProjector']
