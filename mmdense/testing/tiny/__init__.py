"""Configs made small, and data that fits them, for tests.

Everything goes by component, never by config name: a config of a known
backbone needs nothing here to be tested.
"""

from .data import tiny_batch, view_sizes
from .shrink import SIZE, WIDTH, build_model, tiny_config
from .steps import Steps, evaluation_step, tensors_of, train_steps

__all__ = [
    'SIZE',
    'WIDTH',
    'Steps',
    'build_model',
    'evaluation_step',
    'tensors_of',
    'tiny_batch',
    'tiny_config',
    'train_steps',
    'view_sizes',
]
