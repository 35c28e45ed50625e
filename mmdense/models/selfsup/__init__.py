"""Self-supervised methods, one file each."""

from .local_global import LocalGlobal

__all__ = ['LocalGlobal']
