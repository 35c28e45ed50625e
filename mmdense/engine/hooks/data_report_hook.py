"""Say at the end of a run which files were left out."""

from typing import Any

from mmengine.hooks import Hook

from mmdense.registry import HOOKS


@HOOKS.register_module()
class DataReportHook(Hook):
    """Log the report of a training data set that keeps one.

    :class:`mmdense.UnlabeledImages` counts files that it could not use; its
    sampler reports them after each epoch but the last.
    """

    def after_train(self, runner: Any) -> None:
        """Log the report of the last epoch."""
        log_report = getattr(
            runner.train_dataloader.dataset, 'log_report', None
        )
        if log_report is not None:
            log_report()
