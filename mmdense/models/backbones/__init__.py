"""Backbones of mmdense, and how they start from a checkpoint."""

from .pretrained import Pretrained, load_backbone
from .swin_transformer import SwinTransformer
from .vision_transformer import Tokens, VisionTransformer

__all__ = [
    'Pretrained',
    'SwinTransformer',
    'Tokens',
    'VisionTransformer',
    'load_backbone',
]
