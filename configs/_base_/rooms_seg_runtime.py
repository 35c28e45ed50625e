# seg_runtime.py for the short trainings on the demo rooms: epochs
_base_ = ['./seg_runtime.py']

default_hooks = dict(
    logger=dict(interval=5),
    checkpoint=dict(
        by_epoch=True, interval=5, max_keep_ckpts=2, save_best=None
    ),
)
log_processor = dict(by_epoch=True)
