# default_runtime.py for mmdet: its drawing, the best box AP is kept
_base_ = ['./default_runtime.py']

default_hooks = dict(
    checkpoint=dict(
        interval=1,
        max_keep_ckpts=2,
        save_best='coco/bbox_mAP',
        rule='greater',
    ),
    visualization=dict(type='mmdet.DetVisualizationHook'),
)
# images of many sizes: no tuning of convolutions for each of them
env_cfg = dict(cudnn_benchmark=False)
visualizer = dict(
    type='mmdet.DetLocalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
    name='visualizer',
)
log_processor = dict(window_size=50)
