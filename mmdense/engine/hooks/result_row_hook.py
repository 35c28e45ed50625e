"""Write down what a test measured."""

import datetime
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import torch
from mmengine.hooks import Hook

from mmdense.registry import HOOKS
from mmdense.results.config_hash import (
    config_hash,
    config_place,
    initial_weights,
    read_config_text,
    train_data,
)
from mmdense.results.metric_names import (
    metrics_of_sets,
    name_metrics,
    primary,
)
from mmdense.results.published import slug
from mmdense.results.rows import RunRow, file_hash, write_row
from mmdense.utils.dist import process_info
from mmdense.utils.versions import version_of

_PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet')
# what ResumeCheckHook leaves in a checkpoint
_TRAINING = ('world_size', 'batch_size', 'accumulative_counts')


def training_facts(checkpoint: Dict[str, Any]) -> Dict[str, Any]:
    """What a checkpoint says about the training behind it.

    Args:
        checkpoint (dict): As loaded.

    Returns:
        dict: Fields of :class:`RunRow`, as far as they are known.
    """
    meta = checkpoint.get('meta') or {}
    facts: Dict[str, Any] = {}
    run = checkpoint.get('mmdense_run') or {}
    facts['training'] = {k: run[k] for k in _TRAINING if k in run}
    steps, epoch = meta.get('iter'), meta.get('epoch')
    if isinstance(steps, int):
        facts['steps'] = steps // (run.get('accumulative_counts') or 1)
    if isinstance(run.get('train_samples'), int):
        facts['train_samples'] = run['train_samples']
    if isinstance(meta.get('seed'), int):
        facts['seed'] = meta['seed']
    cfg = read_config_text(meta.get('cfg'))
    if cfg is None:
        return facts
    facts['training_hash'] = config_hash(cfg, test=False)
    facts['initial_weights'] = initial_weights(cfg)
    facts['train_data'] = train_data(cfg)
    benchmark = cfg.get('benchmark')
    if isinstance(benchmark, dict):
        facts['pretraining'] = benchmark.get('pretraining')
    loop = cfg.get('train_cfg') or {}
    for done, key in ((steps, 'max_iters'), (epoch, 'max_epochs')):
        if isinstance(done, int) and loop.get(key):
            facts['finished'] = done >= loop[key]
    return facts


def _numbers(metrics: Mapping[str, Any]) -> Dict[str, Any]:
    """Fields of :class:`RunRow` for the result of an evaluator."""
    named = name_metrics(metrics)
    metric = primary(named.values)
    return dict(
        metric=metric,
        value=None if metric is None else named.values[metric],
        metrics=named.values,
        units=named.units,
        raw_metrics=named.raw,
        not_finite=named.not_finite,
    )


@HOOKS.register_module()
class ResultRowHook(Hook):
    """Write a row of results after a test.

    ``<work_dir>/results/<config>_<timestamp>.json``, fields as in
    :class:`mmdense.results.rows.RunRow`. Where ``benchmark.dataset`` is a
    dict of several data sets, name in the tables to word in the metrics
    (``{'NYU Depth V2': 'nyu'}`` for ``'nyu/d1'``), each gets a row of its
    own, ``<config>_<timestamp>_<data set>.json``. A row that cannot be
    written is a warning: the test has its result in the log.
    ``tools/test.py`` adds this hook.

    Args:
        folder (str): Below the work dir. Defaults to ``'results'``.
    """

    def __init__(self, folder: str = 'results') -> None:
        self.folder = folder
        self._facts: Dict[str, Any] = {}

    def after_load_checkpoint(
        self,
        runner: Any,  # noqa: ARG002
        checkpoint: dict,
    ) -> None:
        """Keep what the checkpoint says about its training."""
        self._facts = training_facts(checkpoint)

    def after_test_epoch(
        self, runner: Any, metrics: Optional[Dict[str, float]] = None
    ) -> None:
        """Write the row, on the first process alone."""
        if process_info()[0] != 0 or not metrics:
            return
        folder = Path(runner.work_dir, self.folder)
        try:
            paths = []
            rows = self.rows(runner, metrics)
            for row in rows:
                name = f'{row.config or "test"}_{runner.timestamp}'
                if len(rows) > 1:
                    name += f'_{slug(row.dataset or "")}'
                paths.append(write_row(folder, row, name))
        # nothing here may cost the user a finished test
        except Exception as error:
            runner.logger.warning(
                f'No row of results was written to {runner.work_dir}/'
                f'{self.folder} ({type(error).__name__}: {error}). The '
                'metrics are in the log.'
            )
            return
        for path in paths:
            runner.logger.info(f'Row of results: {path}')

    @staticmethod
    def _benchmark(runner: Any) -> Dict[str, Any]:
        benchmark = runner.cfg.get('benchmark') or {}
        if hasattr(benchmark, 'to_dict'):
            benchmark = benchmark.to_dict()
        return dict(benchmark)

    def rows(self, runner: Any, metrics: Dict[str, float]) -> List[RunRow]:
        """Rows of a test: one, or one a data set.

        Args:
            runner (Runner): After the test.
            metrics (Dict[str, float]): Of the evaluator.

        Returns:
            List[RunRow]: Complete. Data sets that the test had no images
            of have none.

        Raises:
            ValueError: If the metrics are of none of the data sets.
        """
        sets = self._benchmark(runner).get('dataset')
        if not isinstance(sets, dict):
            return [self.row(runner, metrics)]
        found = metrics_of_sets(metrics, sets)
        if not found:
            raise ValueError(
                f'none of the metrics {list(metrics)} is of a set of '
                f'benchmark.dataset, {sets}'
            )
        whole = self.row(runner, metrics)
        return [
            whole._replace(dataset=name, samples=None, **_numbers(values))
            for name, values in found.items()
        ]

    def row(self, runner: Any, metrics: Dict[str, float]) -> RunRow:
        """Row of a test of one data set.

        Args:
            runner (Runner): After the test.
            metrics (Dict[str, float]): Of the evaluator.

        Returns:
            RunRow: Complete.
        """
        cfg, facts = runner.cfg, dict(self._facts)
        benchmark = self._benchmark(runner)
        place = config_place(cfg.filename)
        # a training that says it started from nothing is taken at its word;
        # load_from is what is tested
        start = facts.setdefault(
            'initial_weights', initial_weights({'model': cfg.get('model')})
        )
        facts.setdefault('pretraining', benchmark.get('pretraining'))
        checkpoint = runner._load_from
        sets = benchmark.get('dataset')
        cuda = torch.cuda.is_available()
        log = Path(runner.log_dir) / f'{runner.timestamp}.log'
        return RunRow(
            config=Path(place).stem if place else None,
            config_path=place,
            config_hash=config_hash(cfg),
            checkpoint=checkpoint,
            weights_hash=file_hash(checkpoint),
            initial_weights_hash=file_hash(start),
            dataset=None if isinstance(sets, dict) else sets,
            split=benchmark.get('split'),
            protocol=benchmark.get('protocol'),
            hardware=dict(
                device=torch.cuda.get_device_name() if cuda else 'CPU',
                count=process_info()[1],
                torch=torch.__version__,
                cuda=torch.version.cuda,
            ),
            samples=len(runner.test_dataloader.dataset),
            log=os.path.relpath(log, runner.work_dir).replace(os.sep, '/'),
            time=datetime.datetime.now(datetime.timezone.utc).isoformat(
                timespec='seconds'
            ),
            versions={
                'mmdense': version_of('mmdense'),
                **{name: version_of(name) for name in _PACKAGES},
            },
            **_numbers(metrics),
            **facts,
        )
