# default_runtime.py with mmseg's drawing of results
_base_ = ['./default_runtime.py']

default_hooks = dict(
    visualization=dict(type='mmseg.SegVisualizationHook'),
)
visualizer = dict(
    type='mmseg.SegLocalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
    name='visualizer',
)
log_processor = dict(by_epoch=False)
