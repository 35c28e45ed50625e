"""What users of the package call."""

from .export import export_backbone
from .model_zoo import get_model, list_models, model_config

__all__ = ['export_backbone', 'get_model', 'list_models', 'model_config']
