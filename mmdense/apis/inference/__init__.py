"""Segmentation, detection and depth of images with a fine-tuned model."""

from .depth import DepthInference, DepthInferencer
from .inferencer import DenseInferencer, Inference

__all__ = [
    'DenseInferencer',
    'DepthInference',
    'DepthInferencer',
    'Inference',
]
