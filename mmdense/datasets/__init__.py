"""Data sets, samplers and transforms of mmdense."""

from . import transforms
from .image_io import BadImageError, EncodedImage, open_image
from .samplers import SeededIndex, SeededSampler
from .unlabeled_images import ImageReport, UnlabeledImages

__all__ = [
    'BadImageError',
    'EncodedImage',
    'ImageReport',
    'SeededIndex',
    'SeededSampler',
    'UnlabeledImages',
    'open_image',
    'transforms',
]
