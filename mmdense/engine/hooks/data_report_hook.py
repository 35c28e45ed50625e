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
    """Log what data sets could not use, after each epoch and validation.

    :class:`mmdense.UnlabeledImages` counts the files that it leaves out, the
    depth data sets (:class:`mmdense.datasets.depth.base.DepthDataset`) the
    samples that they replace by others or that are not scored. The counts
    of all processes are put together here, where all of them come by.
    """

    def after_train_epoch(self, runner: Any) -> None:
        """Log the reports; also at the end of an iteration loop."""
        _report(runner.train_dataloader)

    def after_val_epoch(
        self,
        runner: Any,
        metrics: Any = None,  # noqa: ARG002
    ) -> None:
        """Log the reports of the validation data."""
        _report(runner.val_dataloader)


def _report(loader: Any) -> None:
    for dataset in reporting_datasets(loader.dataset):
        dataset.log_report()
