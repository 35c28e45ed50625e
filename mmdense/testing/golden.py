"""Replay golden reference vectors: ``python -m mmdense.testing.golden DIR``.

``DIR`` holds ``index.json`` and one npz file a case. Prints one line a case
and exits with 1 if any disagrees with its stored values. Works for every
folder of this layout; other seeds, widths and shapes are read from it.
"""

import argparse
import difflib
import importlib
import json
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Tuple,
)

import numpy as np
import torch
from mmengine.logging import MMLogger

from .golden_cases import CASES

PASSED, FAILED, ABSENT = 'pass', 'FAIL', 'not implemented'
# groups of arrays that are results
COMPARED = ('out', 'grad', 'gradclip', 'ema')


@dataclass
class Result:
    """Outcome of one case.

    Attributes:
        name (str): Name of the case.
        status (str): ``'pass'``, ``'FAIL'`` or ``'not implemented'``.
        text (str): What was compared and how far it was off.
    """

    name: str
    status: str
    text: str

    def line(self) -> str:
        """The printed line."""
        return f'{self.name:<18} {self.status:<15} {self.text}'.rstrip()


def read_index(folder: Path) -> Dict[str, Dict[str, Any]]:
    """Read the cases of a folder.

    Args:
        folder (Path): Folder with ``index.json``.

    Returns:
        Dict[str, dict]: Entries by name; shared key lists are added as cases
        with their content under ``data``.

    Raises:
        FileNotFoundError: If there is no ``index.json``.
        ValueError: If it is not of the expected layout.
    """
    path = folder / 'index.json'
    if not path.is_file():
        raise FileNotFoundError(
            f'No index.json in {folder}; give the folder of the golden '
            'vectors.'
        )
    index = json.loads(path.read_text(encoding='utf-8'))
    entries = index.get('cases') if isinstance(index, dict) else None
    if isinstance(entries, dict):
        entries = [{'name': name, **entry} for name, entry in entries.items()]
    if not isinstance(entries, list):
        raise ValueError(f'{path} has no list of "cases".')
    cases = {entry['name']: entry for entry in entries}
    shared = dict(index.get('shared') or {})
    shared.setdefault('checkpoint_keys', 'checkpoint_keys.json')
    for name, relative in shared.items():
        for place in (folder / Path(relative).name, folder / relative):
            if place.is_file() and name not in cases:
                data = json.loads(place.read_text(encoding='utf-8'))
                cases[name] = {'name': name, 'data': data}
    return cases


def _function_name(name: str) -> Optional[str]:
    """Replay function of a case; ``dino_vit_b`` is another ``dino_vit``."""
    fitting = [k for k in CASES if name == k or name.startswith(k + '_')]
    return max(fitting, key=len) if fitting else None


def _worst(
    got: Any, expected: Any, rtol: float, atol: float
) -> Tuple[float, float]:
    """Largest absolute error, and largest error in units of the tolerance."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        return np.inf, np.inf
    if got.size == 0:
        return 0.0, 0.0
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid='ignore', divide='ignore'):
        error = np.abs(got - expected)
        same = (got == expected) | (np.isnan(got) & np.isnan(expected))
        error = np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
        allowed = atol + rtol * np.abs(expected)
        ratio = np.where(error == 0, 0.0, error / allowed)
        ratio = np.where(np.isnan(ratio), np.inf, ratio)
    return float(error.max()), float(ratio.max())


def judge(items: Iterable[tuple], outputs: int = 0) -> Tuple[bool, str]:
    """Compare what a replay function yields.

    Args:
        items (Iterable[tuple]): ``(name, got, expected, rtol, atol)``.
        outputs (int): Number of arrays that could be compared. Defaults to
            0: do not say.

    Returns:
        Tuple[bool, str]: Whether all agree, and the text of the line.
    """
    rows: List[Tuple[float, float, str, float, float]] = []
    for name, got, expected, rtol, atol in items:
        error, ratio = _worst(got, expected, rtol, atol)
        rows.append((ratio, error, name, rtol, atol))
    if not rows:
        return False, 'nothing was compared'
    ratio, error, name, rtol, atol = max(rows)
    bad = [row[2] for row in rows if row[0] > 1]
    text = (
        f'largest error {error:.2e} in {name} '
        f'(rtol {rtol:g}, atol {atol:g}); {len(rows)}'
    )
    text += f' of {outputs} arrays' if outputs else ' checks'
    if bad:
        text += f'; wrong: {", ".join(bad[:6])}'
        text += ', ...' if len(bad) > 6 else ''
    return not bad, text


def replay(folder: Path, case: Mapping[str, Any]) -> Result:
    """Replay one case.

    Args:
        folder (Path): Folder of its npz file.
        case (dict): Its entry, see :func:`read_index`.

    Returns:
        Result: The outcome; an exception is a failure.
    """
    name = case['name']
    key = _function_name(name)
    if key is None:
        return Result(name, ABSENT, '')
    try:
        module = importlib.import_module(
            f'mmdense.testing.golden_cases.{CASES[key]}'
        )
    except ModuleNotFoundError as error:
        if (error.name or '').split('.')[0] not in ('mmseg', 'mmdet'):
            raise
        return Result(name, ABSENT, f'({error.name} is not installed)')
    function = getattr(module, key)
    arrays: Dict[str, np.ndarray] = {}
    try:
        if 'data' not in case:
            file = folder / case.get('file', f'{name}.npz')
            with np.load(file, allow_pickle=False) as stored:
                arrays = {k: stored[k] for k in stored.files}
        outputs = [k for k in arrays if k.split('/')[0] in COMPARED]
        torch.manual_seed(0)
        good, text = judge(function(dict(case), arrays), len(outputs))
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return Result(name, FAILED, f'{type(error).__name__}: {error}')
    missing = getattr(module, 'NOT_IMPLEMENTED', {}).get(key, ())
    if missing:
        text += f'; not implemented: {", ".join(missing)}'
    return Result(name, PASSED if good else FAILED, text)


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep the log of the models out of the lines of the cases."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        yield
    finally:
        logger.setLevel(level)


def main(argv: Optional[List[str]] = None) -> int:
    """Command line.

    Args:
        argv (List[str], optional): Arguments. Defaults to ``sys.argv``.

    Returns:
        int: Exit code: 0, 1 after a failure, 2 for a wrong call.
    """
    parser = argparse.ArgumentParser(
        prog='python -m mmdense.testing.golden',
        description='Replay golden reference vectors.',
    )
    parser.add_argument('dir', type=Path, help='folder with index.json')
    parser.add_argument(
        '--cases', nargs='+', metavar='NAME', help='only these cases'
    )
    args = parser.parse_args(argv)
    try:
        cases = read_index(args.dir)
    except (FileNotFoundError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    for name in args.cases or ():
        if name not in cases:
            near = difflib.get_close_matches(name, cases, 3, 0.4)
            print(
                f'error: no case {name!r} in {args.dir}. Nearest: '
                f'{", ".join(near) or sorted(cases)}',
                file=sys.stderr,
            )
            return 2
    torch.set_num_threads(1)
    results = []
    with _quiet_log():
        for name in args.cases or cases:
            results.append(replay(args.dir, cases[name]))
            print(results[-1].line(), flush=True)
    counts = {
        status: sum(result.status == status for result in results)
        for status in (PASSED, FAILED, ABSENT)
    }
    print(', '.join(f'{count} {status}' for status, count in counts.items()))
    return 1 if counts[FAILED] else 0


if __name__ == '__main__':
    sys.exit(main())
