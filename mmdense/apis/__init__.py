"""What users of the package call."""

from .model_zoo import get_model, list_models, model_config

__all__ = ['get_model', 'list_models', 'model_config']
