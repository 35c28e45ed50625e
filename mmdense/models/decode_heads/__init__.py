"""Segmentation heads and segmentor of mmdense, on bases of mmseg."""

from .dpt_seg_head import DPTSegHead
from .encoder_decoder import EncoderDecoder

__all__ = ['DPTSegHead', 'EncoderDecoder']
