# depth_runtime.py for models that are trained by iterations
_base_ = ['./depth_runtime.py']

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=72000))
log_processor = dict(by_epoch=False)
