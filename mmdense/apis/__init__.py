"""What users of the package call."""

from .export import export_backbone
from .inference import DenseInferencer, DepthInferencer
from .model_zoo import get_model, list_models, model_config

__all__ = [
    'DenseInferencer',
    'DepthInferencer',
    'export_backbone',
    'get_model',
    'list_models',
    'model_config',
]
