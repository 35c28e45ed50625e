"""Necks of self-supervised methods, decoder of DPT."""

from .class_attention_pooling import ClassAttentionPooling
from .dino_head import DINOHead
from .dpt_blocks import DPTReassemble, FeatureFusion, PreActResidualUnit
from .dpt_decoder import DPTDecoder
from .token_projector import TokenProjector

__all__ = [
    'ClassAttentionPooling',
    'DINOHead',
    'DPTDecoder',
    'DPTReassemble',
    'FeatureFusion',
    'PreActResidualUnit',
    'TokenProjector',
]
