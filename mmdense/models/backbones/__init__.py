"""Backbones of mmdense, and how they start from a checkpoint."""

from .hybrid_vit import DistilledVisionTransformer, HybridVisionTransformer
from .pretrained import Pretrained, load_backbone
from .swin_transformer import SwinTransformer
from .tokens import Tokens, as_tokens
from .vision_transformer import VisionTransformer

__all__ = [
    'DistilledVisionTransformer',
    'HybridVisionTransformer',
    'Pretrained',
    'SwinTransformer',
    'Tokens',
    'VisionTransformer',
    'as_tokens',
    'load_backbone',
]
