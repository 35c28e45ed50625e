"""Data preprocessors of mmdense."""

from .multi_crop_preprocessor import MultiCropPreprocessor

__all__ = ['MultiCropPreprocessor']
