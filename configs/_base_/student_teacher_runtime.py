# default_runtime.py with what to watch in DINO and MoBY. The monitors are
# under default_hooks because dicts merge and lists do not:
#   --cfg-options default_hooks.collapse_monitor.warmup=0
_base_ = ['./default_runtime.py']

default_hooks = dict(
    collapse_monitor=dict(type='mmdense.CollapseMonitorHook', warmup=1000),
    feature_monitor=dict(type='mmdense.FeatureMonitorHook', interval=50),
)
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel',
    static_graph=True,
    find_unused_parameters=False,
    broadcast_buffers=False,
)
