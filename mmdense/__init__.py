"""mmdense: backbones pre-trained for dense prediction, for OpenMMLab.

Importing the package checks the versions of the stack and mends known
defects of it (:mod:`mmdense.utils.compat`). It imports no compiled operator
and builds no model.
"""

from .utils import compat, mmcv_ext, versions
from .version import __version__

versions.check_stack()
compat.install()
mmcv_ext.install()

__all__ = ['__version__']
