# default_runtime.py for mmseg: iterations, its drawing, the best mIoU is kept
_base_ = ['./default_runtime.py']

default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=8084, save_best='mIoU'),
    visualization=dict(type='mmseg.SegVisualizationHook'),
)
visualizer = dict(
    type='mmseg.SegLocalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
    name='visualizer',
)
log_processor = dict(by_epoch=False)
