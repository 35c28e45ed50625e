"""Stand-in for ``mmcv._ext``, the compiled operators that mmcv-lite lacks.

Stock mmsegmentation and mmdetection import ``mmcv.ops``, whose Python half
ships with mmcv-lite 2.1.0 while its compiled half, ``mmcv._ext``, does not.
:func:`install` offers that module, built on torchvision's operators. It never
replaces a compiled mmcv and must run before mmseg or mmdet are imported.
"""

import sys
from typing import Any

from .finder import install as _install_finder

_MOVED = 'MultiScaleDeformableAttention'
_OLD_PLACE = 'mmcv.cnn.bricks.transformer'


def install() -> bool:
    """Offer ``mmcv._ext`` where mmcv was not compiled.

    Returns:
        bool: True if the stand-in serves, see :func:`.finder.install`.
    """
    served = _install_finder()
    module: Any = sys.modules.get(_OLD_PLACE)
    if served and module is not None and not hasattr(module, _MOVED):
        # imported before us, without operators: mmdet looks there for it
        def lookup(name: str) -> Any:
            if name != _MOVED:
                raise AttributeError(f'module {_OLD_PLACE} has no {name}')
            from mmcv.ops.multi_scale_deform_attn import (
                MultiScaleDeformableAttention,
            )

            return MultiScaleDeformableAttention

        module.__getattr__ = lookup
    return served


__all__ = ['install']
