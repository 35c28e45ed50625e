"""Published numbers beside measured ones."""

import statistics
from collections import Counter
from pathlib import PurePosixPath
from typing import (
    Any,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from .config_hash import config_hash, initial_weights, train_data
from .metric_names import ALIASES, convert
from .published import PublishedRow, lines
from .quoted import quoted_reason
from .rows import RunRow
from .zoo import Zoo, ZooConfig

# end of a note on a metric
NOT_FINITE = ' not finite'


class Measured(NamedTuple):
    """A metric over the runs of a config.

    Attributes:
        mean (float): Over the runs, in the unit of the published row.
        best (float): The best of them; the mean where no direction counts.
        spread (float, optional): Standard deviation (of a sample), None for
            one run.
        runs (int): Number of runs.
        difference (float): Mean less the published value.
        better (bool, optional): Whether the mean is better than published;
            None if equal in the digits printed, or no direction counts.
    """

    mean: float
    best: float
    spread: Optional[float]
    runs: int
    difference: float
    better: Optional[bool]


class Result(NamedTuple):
    """A line of a table, for one of its configs.

    Attributes:
        key (str): Of the line.
        rows (Tuple[PublishedRow, ...]): Its numbers.
        config (ZooConfig, optional): None if no config reproduces it.
        protocol (str): ``benchmark.protocol`` of the config.
        measured (Dict[str, Measured]): Metric to what was measured.
        runs (List[RunRow]): The runs that count.
        refused (List[str]): One text for each run that does not.
        notes (List[str]): What a reader has to know.
    """

    key: str
    rows: Tuple[PublishedRow, ...]
    config: Optional[ZooConfig]
    protocol: str
    measured: Dict[str, Measured]
    runs: List[RunRow]
    refused: List[str]
    notes: List[str]


def total_images(facts: Dict[str, Any]) -> Optional[int]:
    """Images of an optimiser step, from ``RunRow.training``.

    Args:
        facts (dict): Counts; ``accumulative_counts`` is 1 if unknown.

    Returns:
        int or None: None if processes or their batch are unknown.
    """
    processes, batch = facts.get('world_size'), facts.get('batch_size')
    if not processes or not batch:
        return None
    return processes * batch * (facts.get('accumulative_counts') or 1)


def _name(path: str) -> str:
    return PurePosixPath(path.replace('\\', '/')).name


def _source(found: Any) -> Dict[str, Any]:
    """``benchmark.pretraining`` as plain values, without its file."""
    return {
        key: value
        for key, value in (found or {}).items()
        if key != 'checkpoint' and not str(key).startswith('_')
    }


def _other_start(run: RunRow, config: ZooConfig) -> Optional[str]:
    """Why the weights that a run started from are not the config's.

    ``benchmark.pretraining`` has to be the config's, its key ``checkpoint``
    aside. That key is written by ``tools/benchmarks/run.py --weights``, which
    keeps the other keys only for weights of the same pre-training; so a file
    of any name is accepted with it. Without it the file has to be the one
    that the config names, the folder aside. A config that names none (the
    demos) accepts any file, but not a start from random weights.
    """
    wanted = _source((config.benchmark or {}).get('pretraining'))
    found, used = run.pretraining or {}, run.initial_weights
    given = found.get('checkpoint')
    named = initial_weights(config.cfg)
    if _source(found) != wanted:
        what = _name(str(given)) if given else found.get('method')
        return f'other pre-training ({what})'
    if used is None:
        if named or wanted:
            return 'not started from the pre-trained weights'
        return None
    if named and not given and _name(used) != _name(named):
        return f'started from {_name(used)}, the config names {_name(named)}'
    return None


def refusal(run: RunRow, config: ZooConfig) -> Optional[str]:
    """Why a run of a config may not stand beside a published number.

    Protocol, data and both hashes have to be those of the config, the
    training has to be known, complete and of the recipe's total batch, and
    has to have started from the weights of the config. A config that only
    evaluates weights of others (no epochs) takes them as they are.

    Args:
        run (RunRow): A run of that config.
        config (ZooConfig): As it is today.

    Returns:
        str or None: None if it may.
    """
    wanted = config.benchmark or {}
    for field in ('protocol', 'dataset', 'split'):
        found = getattr(run, field)
        several = field == 'dataset' and isinstance(wanted.get(field), dict)
        if not (
            found in wanted[field] if several else found == wanted.get(field)
        ):
            return f'other {field} ({found})'
    whole, training = config.hashes
    if run.config_hash != whole:
        tta = config.tta and run.config_hash == config_hash(config.cfg)
        return 'tested without --tta' if tta else 'config changed'
    if config.is_evaluation:
        return None
    total = total_images(run.training)
    if run.training_hash is None or run.finished is None or total is None:
        return 'training unknown'
    if run.training_hash != training:
        return 'trained with another config'
    if run.finished is False:
        return f'training not finished (step {run.steps})'
    base = (config.cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if base and total != base:
        return f'trained with {total} images a step, the recipe has {base}'
    return _other_start(run, config)


def _distinct(runs: Iterable[RunRow]) -> List[RunRow]:
    """The latest test of each file of weights."""
    latest: Dict[str, RunRow] = {}
    for run in sorted(runs, key=lambda r: r.time):
        latest[run.weights_hash or run.file] = run
    return list(latest.values())


def _value(run: RunRow, row: PublishedRow) -> Optional[float]:
    """Value of a run for a published row, in that row's unit."""
    for name in (row.metric, ALIASES.get(row.metric, '')):
        value = run.metrics.get(name)
        if value is not None:
            return convert(value, run.units.get(name, row.unit), row.unit)
    return None


def digits(printed: str) -> int:
    """Digits behind the point of a number in a table."""
    return len(printed.partition('.')[2])


def measure(row: PublishedRow, runs: Sequence[RunRow]) -> Optional[Measured]:
    """Put a published number and the runs together.

    Args:
        row (PublishedRow): The number.
        runs (Sequence[RunRow]): Runs that count.

    Returns:
        Measured or None: None if no run has that metric.
    """
    found = [_value(run, row) for run in runs]
    values = [value for value in found if value is not None]
    if not values:
        return None
    mean = statistics.fmean(values)
    if row.higher_is_better is None:
        best = mean
    else:
        best = max(values) if row.higher_is_better else min(values)
    difference = mean - row.value
    better: Optional[bool] = None
    equal = round(mean, digits(row.printed)) == row.value
    if row.higher_is_better is not None and not equal:
        better = (difference > 0) == row.higher_is_better
    return Measured(
        mean=mean,
        best=best,
        spread=statistics.stdev(values) if len(values) > 1 else None,
        runs=len(values),
        difference=difference,
        better=better,
    )


def _notes(runs: Sequence[RunRow], config: ZooConfig) -> List[str]:
    """What a reader has to know of runs that count."""
    notes: List[str] = []
    data = train_data(config.cfg)
    for run in runs:
        where = run.config or run.file
        given = (run.pretraining or {}).get('checkpoint')
        if given:
            notes.append(f'{where}: started from {_name(str(given))}')
        if run.train_data and data and run.train_data != data:
            known = run.train_samples
            number = f' ({known} samples)' if known is not None else ''
            notes.append(
                f'{where}: trained on {run.train_data}{number}, the config '
                f'names {data}'
            )
        if config.is_evaluation:
            notes.append(f'{where}: weights of {_name(str(run.checkpoint))}')
        notes += [f'{where}: {name}{NOT_FINITE}' for name in run.not_finite]
    return counted(notes)


def counted(texts: Iterable[str]) -> List[str]:
    """Each text once, with the number of runs that it is of."""
    numbers = Counter(texts)
    return [t if n == 1 else f'{t} ({n} runs)' for t, n in numbers.items()]


def _counted(row: PublishedRow, config: ZooConfig) -> Optional[Measured]:
    """Parameters, in millions, which need no run."""
    count = (config.entry.get('Metadata') or {}).get('Parameters')
    if (row.metric, row.unit) != ('params', 'M') or not count:
        return None
    millions = count / 1e6
    return Measured(millions, millions, None, 0, millions - row.value, None)


def _result(
    key: str,
    rows: Tuple[PublishedRow, ...],
    config: ZooConfig,
    runs: Sequence[RunRow],
    any_protocol: bool,
) -> Result:
    refused, kept = [], []
    if isinstance((config.benchmark or {}).get('dataset'), dict):
        runs = [run for run in runs if run.dataset == rows[0].dataset]
    for run in runs:
        reason = refusal(run, config)
        if reason is not None:
            refused.append(f'{config.name}: {reason}')
        if reason is None or any_protocol:
            kept.append(run)
    kept = _distinct(kept)
    found = {
        row.metric: measure(row, kept) or _counted(row, config) for row in rows
    }
    notes = _notes(kept, config)
    if any_protocol and refused:
        notes += [f'compared all the same: {t}' for t in counted(refused)]
        refused = []
    return Result(
        key=key,
        rows=rows,
        config=config,
        protocol=(config.benchmark or {}).get('protocol') or '',
        measured={k: v for k, v in found.items() if v is not None},
        runs=kept,
        refused=counted(refused),
        notes=notes,
    )


def compare(
    table: str,
    zoo: Zoo,
    runs: Sequence[RunRow] = (),
    any_protocol: bool = False,
) -> List[Result]:
    """A published table with what was measured.

    Args:
        table (str): Value of ``source_table``.
        zoo (Zoo): Configs.
        runs (Sequence[RunRow]): Rows of tests.
        any_protocol (bool): Also compare runs that :func:`refusal` speaks
            against; each gets a note. Defaults to False.

    Returns:
        List[Result]: For each line of the table one result a config, in the
        order of the table; lines without a config have one with None.
    """
    by_config: Dict[Optional[str], List[RunRow]] = {}
    for run in runs:
        by_config.setdefault(run.config, []).append(run)
    results = []
    for key, rows in lines().items():
        if rows[0].source_table != table:
            continue
        configs = zoo.reproducing.get(key, [])
        for config in configs:
            mine = by_config.get(config.name, [])
            results.append(_result(key, rows, config, mine, any_protocol))
        if not configs:
            reason = quoted_reason(rows[0])
            notes = [f'quoted: {reason}'] if reason else []
            results.append(Result(key, rows, None, '', {}, [], [], notes))
    return results


def metrics_of(results: Sequence[Result]) -> List[str]:
    """Metrics of a table, in the order in which they appear."""
    names = [row.metric for result in results for row in result.rows]
    return list(dict.fromkeys(names))


def orphans(runs: Sequence[RunRow], zoo: Zoo) -> List[RunRow]:
    """Runs whose config reproduces no published row."""
    known = {
        config.name for found in zoo.reproducing.values() for config in found
    }
    return [run for run in runs if run.config not in known]
