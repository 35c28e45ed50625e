"""One JSON file for each test of a checkpoint."""

import hashlib
import json
import math
import os
import warnings
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Tuple,
    Union,
)

from ..utils.errors import UserValueError

SCHEMA = 1


class RowWarning(UserWarning):
    """A file with a row that cannot be used."""


class RunRow(NamedTuple):
    """What a test of a checkpoint measured, and of what.

    Attributes:
        schema (int): Version of these fields.
        config (str, optional): Stem of the config file.
        config_path (str, optional): From ``configs`` on, if it lies there.
        config_hash (str, optional): Of the test's config.
        training_hash (str, optional): Of the config in the checkpoint, its
            training part.
        checkpoint (str, optional): Path of the file that was tested.
        weights_hash (str, optional): SHA-256 of that file.
        initial_weights (str, optional): What the training started from.
        initial_weights_hash (str, optional): SHA-256, if the file was there.
        pretraining (dict, optional): ``benchmark.pretraining`` of the
            training, of the test where the training's is not known.
        dataset (str, optional): ``benchmark.dataset``, or one of several.
        split (str, optional): ``benchmark.split``.
        protocol (str, optional): ``benchmark.protocol``.
        metric (str, optional): The metric that stands for the run.
        value (float, optional): Its value in ``units[metric]``.
        metrics (Dict[str, float or None]): All, spelled as in the tables.
        units (Dict[str, str]): Their units.
        raw_metrics (Dict[str, float or None]): As the evaluator named them.
        not_finite (List[str]): Raw names of NaN and infinite values, which
            are None above.
        hardware (dict): ``device``, ``count``, ``torch``, ``cuda``.
        training (dict): ``world_size``, ``batch_size`` (per process) and
            ``accumulative_counts`` of the training, as far as known.
        train_data (str, optional): Last part of the data root of the
            training; no part of the hashes, machines name it differently.
        train_samples (int, optional): Samples of that data, if the
            checkpoint says so.
        seed (int, optional): Of the training.
        steps (int, optional): Optimiser steps behind the checkpoint.
        finished (bool, optional): Whether the training had come to its end.
        samples (int, optional): Samples of the test, None where it is of
            several data sets.
        log (str, optional): Log file, from the work dir on.
        time (str): UTC, ISO 8601.
        versions (Dict[str, str]): Of the packages.
        file (str): Where the row was read from; not written.
    """

    schema: int = SCHEMA
    config: Optional[str] = None
    config_path: Optional[str] = None
    config_hash: Optional[str] = None
    training_hash: Optional[str] = None
    checkpoint: Optional[str] = None
    weights_hash: Optional[str] = None
    initial_weights: Optional[str] = None
    initial_weights_hash: Optional[str] = None
    pretraining: Optional[Dict[str, Any]] = None
    dataset: Optional[str] = None
    split: Optional[str] = None
    protocol: Optional[str] = None
    metric: Optional[str] = None
    value: Optional[float] = None
    metrics: Dict[str, Optional[float]] = {}
    units: Dict[str, str] = {}
    raw_metrics: Dict[str, Optional[float]] = {}
    not_finite: List[str] = []
    hardware: Dict[str, Any] = {}
    training: Dict[str, Any] = {}
    train_data: Optional[str] = None
    train_samples: Optional[int] = None
    seed: Optional[int] = None
    steps: Optional[int] = None
    finished: Optional[bool] = None
    samples: Optional[int] = None
    log: Optional[str] = None
    time: str = ''
    versions: Dict[str, Optional[str]] = {}
    file: str = ''


def file_hash(path: Union[str, Path, None]) -> Optional[str]:
    """SHA-256 of a file, None if it is not there."""
    if not path or not os.path.isfile(path):
        return None
    digest = hashlib.sha256()
    with open(path, 'rb') as stream:
        for block in iter(lambda: stream.read(1 << 22), b''):
            digest.update(block)
    return digest.hexdigest()


def to_json(row: RunRow) -> str:
    """Text of a row, without ``file``.

    Raises:
        ValueError: If a number is NaN or infinite; JSON has none.
    """
    values = row._asdict()
    del values['file']
    return json.dumps(values, indent=2, allow_nan=False) + '\n'


def _no_constant(name: str) -> None:
    raise ValueError(f'{name} is no JSON')


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value > 0


def _is_number(value: Any) -> bool:
    """A number that a mean can be taken of; JSON's ``1e999`` is infinite."""
    try:
        return (_is_integer(value) or isinstance(value, float)) and (
            math.isfinite(value)
        )
    except OverflowError:
        return False


_TEXTS = (
    *('config', 'config_path', 'config_hash', 'training_hash', 'checkpoint'),
    *('weights_hash', 'initial_weights', 'initial_weights_hash', 'dataset'),
    *('split', 'protocol', 'metric', 'log', 'train_data'),
)
_INTEGERS = ('seed', 'steps', 'samples', 'train_samples')
# object -> what its values are, null allowed or not
_OBJECTS: Dict[str, Tuple[Callable[[Any], bool], str, bool]] = {
    'metrics': (_is_number, 'a finite number', True),
    'raw_metrics': (_is_number, 'a finite number', True),
    'units': (_is_text, 'a string', False),
    'training': (_is_count, 'a positive integer', True),
    'versions': (_is_text, 'a string', True),
    'hardware': (lambda _: True, '', True),
}


def _check(row: RunRow) -> None:
    """Raise UserValueError for a field that is not of its type."""

    def need(
        name: str,
        value: Any,
        test: Callable[[Any], bool],
        wanted: str,
        null: bool,
    ) -> None:
        if not (test(value) or (null and value is None)):
            said = repr(value)
            said = said if len(said) < 60 else f'{said[:57]}...'
            raise UserValueError(
                f'{row.file}: {name} is {said}, not {wanted}.'
            )

    for name in _TEXTS:
        need(name, getattr(row, name), _is_text, 'a string', null=True)
    for name in _INTEGERS:
        need(name, getattr(row, name), _is_integer, 'an integer', null=True)
    need('time', row.time, _is_text, 'a string', null=False)
    need('value', row.value, _is_number, 'a finite number', null=True)
    for name, kind, said, null in (
        ('finished', bool, 'true or false', True),
        ('pretraining', dict, 'an object', True),
        ('not_finite', list, 'a list', False),
        *((name, dict, 'an object', False) for name in _OBJECTS),
    ):
        value = getattr(row, name)
        need(name, value, lambda v, k=kind: isinstance(v, k), said, null)
    for item in row.not_finite:
        need('not_finite[]', item, _is_text, 'a string', null=False)
    for name, (test, said, null) in _OBJECTS.items():
        for key, value in getattr(row, name).items():
            need(f'{name}.{key}', value, test, said, null)


def from_json(text: str, file: str = '') -> RunRow:
    """Row of a text.

    Args:
        text (str): From :func:`to_json`.
        file (str): Where it was read from. Defaults to ``''``.

    Returns:
        RunRow: The row.

    Raises:
        UserValueError: If it is no row of a known schema, or a field is not
            of its type.
    """
    try:
        values = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UserValueError(f'{file}: no JSON ({error}).') from error
    if not isinstance(values, dict) or 'schema' not in values:
        raise UserValueError(f'{file}: no run row, it has no "schema".')
    if values['schema'] != SCHEMA:
        raise UserValueError(
            f'{file}: schema {values["schema"]}, this version of mmdense '
            f'reads {SCHEMA}.'
        )
    # a field that is null by itself may be left out
    known = {k: v for k, v in values.items() if k in RunRow._fields}
    row = RunRow(**{**known, 'file': file})
    _check(row)
    return row


def write_row(folder: Union[str, Path], row: RunRow, name: str) -> Path:
    """Write a row; a reader never sees half of it.

    Args:
        folder (str or Path): Made if it is not there.
        row (RunRow): The row.
        name (str): Name of the file, without ``.json``. A number is added
            if there is such a file.

    Returns:
        Path: The file.

    Raises:
        OSError: If it cannot be written.
        ValueError: If a number is NaN or infinite.
    """
    folder = Path(folder)
    text = to_json(row)
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / f'{name}.json', 1
    while path.exists():
        number += 1
        path = folder / f'{name}_{number}.json'
    part = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        part.write_text(text, encoding='utf-8')
        os.replace(part, path)
    finally:
        if part.exists():
            part.unlink()
    return path


def read_rows(folder: Union[str, Path]) -> List[RunRow]:
    """Rows of all ``results`` folders below a folder.

    Args:
        folder (str or Path): A work dir, a folder of them, or the folder
            with the files itself.

    Returns:
        List[RunRow]: By file name. A file that is broken is left out with a
        warning.

    Raises:
        UserValueError: If there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserValueError(
            f'No folder {folder} with run rows. tools/test.py writes them '
            'to <work dir>/results.'
        )
    names = set(folder.glob('*.json')) | {
        path
        for path in folder.rglob('*.json')
        if path.parent.name == 'results'
    }
    rows = []
    for path in sorted(names):
        if path.name.startswith('.'):
            continue
        try:
            rows.append(from_json(path.read_text(encoding='utf-8'), str(path)))
        except (OSError, UnicodeDecodeError, UserValueError) as error:
            text = str(error)
            if str(path) not in text:
                text = f'{path}: {text}'
            warnings.warn(f'passed over: {text}', RowWarning, stacklevel=2)
    return rows
