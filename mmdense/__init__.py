"""mmdense: backbones pre-trained for dense prediction, for OpenMMLab."""

from .version import __version__

__all__ = ['__version__']
