"""Segmentation and detection of images with a fine-tuned model."""

from .inferencer import DenseInferencer, Inference

__all__ = ['DenseInferencer', 'Inference']
