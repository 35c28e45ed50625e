"""Models of mmdense: backbones, necks, heads, losses, methods."""

from . import (
    backbones,
    data_preprocessors,
    heads,
    losses,
    necks,
    selfsup,
)

__all__ = [
    'backbones',
    'data_preprocessors',
    'heads',
    'losses',
    'necks',
    'selfsup',
]
