"""Self-supervised methods, one file each."""

from .dino import DINO
from .local_global import LocalGlobal
from .moby import MoBY
from .selfpatch import SelfPatch

__all__ = ['DINO', 'LocalGlobal', 'MoBY', 'SelfPatch']
