# default_runtime.py for depth: --show-dir and the back ends get pictures with
# a legend in metres, beside the truth and the error
_base_ = ['./default_runtime.py']

default_hooks = dict(
    visualization=dict(type='mmdense.DepthVisualizationHook', draw=False),
)
visualizer = dict(
    type='mmdense.DepthVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
    name='visualizer',
)
