"""Say after each epoch which files were left out."""

from typing import Any, Iterator

from mmengine.hooks import Hook

from mmdense.registry import HOOKS


def reporting_datasets(dataset: Any) -> Iterator[Any]:
    """Data sets that keep a report, also inside wrappers.

    Args:
        dataset (Any): A data set, or a wrapper with ``dataset`` or
            ``datasets``.

    Yields:
        Any: Data sets with ``log_report``.
    """
    if hasattr(dataset, 'log_report'):
        yield dataset
        return
    inner = list(getattr(dataset, 'datasets', []))
    if hasattr(dataset, 'dataset'):
        inner.append(dataset.dataset)
    for part in inner:
        yield from reporting_datasets(part)


@HOOKS.register_module()
class DataReportHook(Hook):
    """Log what training data sets could not use, after each epoch.

    :class:`mmdense.UnlabeledImages` counts the files that it leaves out. The
    counts of all processes are put together here, where all of them come by.
    """

    def after_train_epoch(self, runner: Any) -> None:
        """Log the reports; also at the end of an iteration loop."""
        for dataset in reporting_datasets(runner.train_dataloader.dataset):
            dataset.log_report()
