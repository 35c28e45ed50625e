"""Hooks of mmdense."""

from .collapse_monitor_hook import CollapseMonitorHook
from .data_report_hook import DataReportHook
from .depth_visualization_hook import DepthVisualizationHook
from .feature_monitor_hook import FeatureMonitorHook
from .freeze_last_layer_hook import FreezeLastLayerHook
from .momentum_update_hook import MomentumUpdateHook
from .non_finite_loss_hook import NonFiniteLossHook
from .patch_match_monitor_hook import PatchMatchMonitorHook
from .result_row_hook import ResultRowHook
from .resume_check_hook import ResumeCheckHook
from .runtime_info_hook import RuntimeInfoHook
from .step_seed_hook import StepSeedHook

__all__ = [
    'CollapseMonitorHook',
    'DataReportHook',
    'DepthVisualizationHook',
    'FeatureMonitorHook',
    'FreezeLastLayerHook',
    'MomentumUpdateHook',
    'NonFiniteLossHook',
    'PatchMatchMonitorHook',
    'ResultRowHook',
    'ResumeCheckHook',
    'RuntimeInfoHook',
    'StepSeedHook',
]
