"""Hooks of mmdense."""

from .collapse_monitor_hook import CollapseMonitorHook
from .step_seed_hook import StepSeedHook

__all__ = ['CollapseMonitorHook', 'StepSeedHook']
