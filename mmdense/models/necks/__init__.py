"""Necks of self-supervised methods."""

from .class_attention_pooling import ClassAttentionPooling
from .dino_head import DINOHead
from .token_projector import TokenProjector

__all__ = ['ClassAttentionPooling', 'DINOHead', 'TokenProjector']
