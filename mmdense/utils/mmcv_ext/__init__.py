"""Stand-in for ``mmcv._ext``, the compiled operators that mmcv-lite lacks.

Stock mmsegmentation and mmdetection import ``mmcv.ops``, whose Python half
ships with mmcv-lite 2.1.0 while its compiled half, ``mmcv._ext``, does not.
:func:`install` offers that module, built on torchvision's operators. It never
replaces a compiled mmcv and must run before mmseg or mmdet are imported.
"""

from .finder import install

__all__ = ['install']
