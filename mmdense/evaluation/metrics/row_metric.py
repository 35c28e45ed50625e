"""Base of the depth metrics: one short row per image, per-image CSV."""

import csv
import logging
import os
import os.path as osp
from abc import abstractmethod
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log

from mmdense.utils.errors import UserValueError

#: Image path, name of its data set, numbers; None if it is not scored here.
Row = Tuple[str, str, Optional[Tuple[float, ...]]]


class RowMetric(BaseMetric):
    """Metric that keeps one row of numbers per image, never pixels.

    Every image leaves a row, also those of data sets that are not scored:
    mmengine puts the rows of several processes back into the order of the
    data set by their position, and cuts the padding of samplers off. So the
    result of any number of processes is that of one, bit for bit.

    Args:
        datasets (str or Sequence[str], optional): Score only images with
            this ``dataset_name``. Of several names each is reported as
            ``<name>/...``, and the mean over the sets as ``mean/...``. None
            for all images, together. Defaults to None.
        csv_file (str, optional): Table with a line per scored image, in the
            order of the data set; relative to the work dir of the run.
            Every evaluation overwrites it. Defaults to None.
        collect_device (str): 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the results. Defaults to None.

    Raises:
        UserValueError: If ``datasets`` is empty or ``csv_file`` cannot be
            written.
    """

    def __init__(
        self,
        datasets: Optional[Union[str, Sequence[str]]] = None,
        csv_file: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        if isinstance(datasets, str):
            datasets = [datasets]
        if datasets is not None and not datasets:
            raise UserValueError(
                f'{type(self).__name__}: datasets is empty; name data sets '
                'or leave it out'
            )
        self.datasets = None if datasets is None else tuple(datasets)
        self.csv_file = csv_file
        if csv_file is not None and is_main_process():
            self._check_target(self._csv_path())
        self.flip_test: Optional[bool] = None

    @abstractmethod
    def score_sample(self, sample: Dict[str, Any]) -> np.ndarray:
        """Numbers of one image.

        Args:
            sample (dict): Prediction, truth and meta information.

        Returns:
            ndarray: float64 ``(n,)``.
        """

    @abstractmethod
    def summarize(self, table: np.ndarray) -> Dict[str, float]:
        """Metrics of some images.

        Args:
            table (ndarray): ``(N, n)``, N >= 1.

        Returns:
            Dict[str, float]: Metrics.
        """

    @abstractmethod
    def csv_values(self, row: np.ndarray) -> Dict[str, Any]:
        """Columns of the CSV for one image.

        Args:
            row (ndarray): ``(n,)``.

        Returns:
            Dict[str, Any]: Column to value, always with the same columns.
        """

    def log_summary(self, rows: List[Row]) -> None:
        """Log what has to be known about the result.

        Args:
            rows (List[Row]): Scored images.
        """

    def process(
        self,
        data_batch: Any,  # noqa: ARG002
        data_samples: Sequence[dict],
    ) -> None:
        """Reduce a batch to rows.

        Args:
            data_batch (Any): Unused.
            data_samples (Sequence[dict]): Per image prediction, truth and
                meta information.
        """
        for sample in data_samples:
            path = str(sample.get('img_path', '<no img_path>'))
            name = str(sample.get('dataset_name', ''))
            numbers: Optional[Tuple[float, ...]] = None
            if self.datasets is None or name in self.datasets:
                # known if the model says so
                self.flip_test = sample.get('flip_test', self.flip_test)
                try:
                    # small arrays between large temporary ones would
                    # keep the heap from shrinking
                    numbers = tuple(self.score_sample(sample).tolist())
                except ValueError as error:
                    raise UserValueError(f'{path}: {error}') from error
            self.results.append((path, name, numbers))

    def compute_metrics(self, results: List[Row]) -> Dict[str, float]:
        """Metrics of all images; writes the CSV.

        Args:
            results (List[Row]): Rows in the order of the data set.

        Returns:
            Dict[str, float]: The metrics; empty if no image belongs to
            ``datasets`` (a test set that is not there, for instance).

        Raises:
            UserValueError: If nothing at all was evaluated.
        """
        title = type(self).__name__
        if not results:
            raise UserValueError(
                f'{title}: no image was evaluated; the validation set is '
                'empty (val_dataloader.dataset.indices, data_prefix)'
            )
        rows = [row for row in results if row[2] is not None]
        if not rows:
            self._warn(
                f'no image of {self._names()} among those evaluated '
                f'({sorted({name for _, name, _ in results})}); no result'
            )
            return {}
        self.log_summary(rows)
        if self.csv_file is not None:
            self._write_csv(rows)
        if self.datasets is None or len(self.datasets) == 1:
            return self.summarize(_table(rows))
        return self._per_set(rows)

    def _per_set(self, rows: List[Row]) -> Dict[str, float]:
        assert self.datasets is not None
        parts: Dict[str, Dict[str, float]] = {}
        for name in self.datasets:
            own = [row for row in rows if row[1] == name]
            if own:
                parts[name] = self.summarize(_table(own))
            else:
                self._warn(
                    f'no image of {name!r} was evaluated; no mean over the '
                    'sets'
                )
        values: Dict[str, float] = {}
        # first: of equal metrics the tables of results take the first
        if len(parts) == len(self.datasets):
            for key in next(iter(parts.values())):
                numbers = [part[key] for part in parts.values()]
                counts = key in ('images', 'skipped', 'pairs')
                values[f'mean/{key}'] = (
                    sum(numbers) if counts else float(np.mean(numbers))
                )
        for name, part in parts.items():
            values.update({f'{name}/{k}': v for k, v in part.items()})
        return values

    def _csv_path(self) -> str:
        assert self.csv_file is not None
        return osp.join(work_dir(), osp.expanduser(self.csv_file))

    def _check_target(self, path: str) -> None:
        """Refuse a table that cannot be written, before the evaluation."""
        reason = ''
        folder = osp.dirname(osp.abspath(path))
        while not osp.lexists(folder):
            folder = osp.dirname(folder)
        if osp.isdir(path):
            reason = 'it is a folder'
        elif not osp.isdir(folder):
            reason = f'{folder} is no folder'
        elif not os.access(folder, os.W_OK | os.X_OK):
            reason = f'{folder} may not be written to'
        if reason:
            raise UserValueError(
                f'{type(self).__name__}: csv_file={self.csv_file!r} cannot be '
                f'written to {path}: {reason}. Give another file or '
                'csv_file=None.'
            )

    def _write_csv(self, rows: List[Row]) -> None:
        path = self._csv_path()
        lines = [
            dict(
                img_path=image,
                dataset=name,
                **self.csv_values(np.array(numbers)),
            )
            for image, name, numbers in rows
            if numbers is not None
        ]
        draft = f'{path}.part'
        try:
            os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
            with open(draft, 'w', newline='', encoding='utf-8') as file:
                writer = csv.DictWriter(file, list(lines[0]))
                writer.writeheader()
                writer.writerows(lines)
            os.replace(draft, path)
        # the scores of a finished evaluation are worth more
        except OSError as error:
            self._warn(f'csv_file={self.csv_file!r} was not written: {error}')
            return
        print_log(
            f'{type(self).__name__}: {len(lines)} images in {path}',
            MMLogger.get_current_instance(),
        )

    def _names(self) -> str:
        return ', '.join(map(repr, self.datasets or ()))

    def _warn(self, message: str) -> None:
        print_log(
            f'{type(self).__name__}: {message}',
            MMLogger.get_current_instance(),
            level=logging.WARNING,
        )


def work_dir() -> str:
    """Work dir of the run, from the log file of its logger.

    Returns:
        str: The folder; the current one if there is no log file.
    """
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            # mmengine: <work_dir>/<timestamp>/<timestamp>.log
            folder, name = osp.split(handler.baseFilename)
            inner = osp.basename(folder)
            return osp.dirname(folder) if name.startswith(inner) else folder
    return os.getcwd()


def _table(rows: List[Row]) -> np.ndarray:
    return np.array([row[2] for row in rows if row[2] is not None])
