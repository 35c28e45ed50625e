"""Hooks of mmdense."""

from .collapse_monitor_hook import CollapseMonitorHook
from .data_report_hook import DataReportHook
from .step_seed_hook import StepSeedHook

__all__ = ['CollapseMonitorHook', 'DataReportHook', 'StepSeedHook']
