"""Optimiser wrappers and their constructors."""

from .grouped_constructor import GroupedOptimWrapperConstructor
from .layer_decay_constructor import LayerDecayOptimWrapperConstructor
from .optim_wrapper import AmpOptimWrapper, NonFiniteLossError, OptimWrapper

__all__ = [
    'AmpOptimWrapper',
    'GroupedOptimWrapperConstructor',
    'LayerDecayOptimWrapperConstructor',
    'NonFiniteLossError',
    'OptimWrapper',
]
