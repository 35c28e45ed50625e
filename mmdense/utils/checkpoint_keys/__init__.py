"""Key layouts of backbone checkpoints: detection, mapping, coverage.

The canonical layout is mmpretrain's. Everything here works on plain state
dicts and builds no model.
"""

from .coverage import Coverage, CoverageError, compare
from .layouts import (
    LAYOUTS,
    CheckpointKeyError,
    check_vit_kind,
    detect_layout,
    from_canonical,
    to_canonical,
)
from .pretraining import (
    TrainingState,
    official_file,
    official_state,
    own_state,
    read_training,
)
from .sources import BackboneSource, extract_backbone

__all__ = [
    'LAYOUTS',
    'BackboneSource',
    'CheckpointKeyError',
    'Coverage',
    'CoverageError',
    'TrainingState',
    'check_vit_kind',
    'compare',
    'detect_layout',
    'extract_backbone',
    'from_canonical',
    'official_file',
    'official_state',
    'own_state',
    'read_training',
    'to_canonical',
]
