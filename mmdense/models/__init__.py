"""Models of mmdense: backbones, necks, heads, losses, methods."""

from . import backbones, heads, losses, necks, selfsup

__all__ = ['backbones', 'heads', 'losses', 'necks', 'selfsup']
