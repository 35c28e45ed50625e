"""The numbers of the papers' tables, and names for their lines."""

import csv
import difflib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..utils.errors import UserValueError

FILE = Path(__file__).with_name('published.csv')
# key of a ``Reproduces`` entry -> column
SELECTOR_COLUMNS = {
    'Table': 'source_table',
    'Method': 'method',
    'Backbone': 'backbone',
    'Dataset': 'dataset',
    'Protocol': 'head_or_protocol',
    'Setting': 'setting',
    'Split': 'split',
    'Metric': 'metric',
}
_REQUIRED = ('Table', 'Method', 'Dataset')


class PublishedRow(NamedTuple):
    """One number of a table.

    Attributes:
        method (str): Method, as printed.
        backbone (str): As printed, ``''`` if there is none.
        dataset (str): Data set of the evaluation.
        metric (str): Such as ``'mIoU'`` or ``'bbox_AP'``.
        value (float): In ``unit``.
        source_table (str): ``'<paper>:<table>'``.
        paper (str): Short name of the paper.
        task (str): Such as ``'semantic segmentation'``.
        split (str): Part of the data set.
        pretrain_data (str): Data of the pre-training.
        pretrain_epochs (str): Its epochs, ``''`` if not printed.
        head_or_protocol (str): Head, ``''`` if the table has one for all.
        setting (str): What else tells lines of a table apart.
        unit (str): ``'%'``, ``'points'``, ``'fraction'``, ``'m'``, ...
        higher_is_better (bool, optional): None for counts.
        owned_by_paper (bool): A row of the paper's own method.
        is_best_in_table (bool): Printed as the best.
        notes (str): Misprints, origin of quoted numbers.
        printed (str): The value with the digits of the table.
    """

    method: str
    backbone: str
    dataset: str
    metric: str
    value: float
    source_table: str
    paper: str
    task: str
    split: str
    pretrain_data: str
    pretrain_epochs: str
    head_or_protocol: str
    setting: str
    unit: str
    higher_is_better: Optional[bool]
    owned_by_paper: bool
    is_best_in_table: bool
    notes: str
    printed: str


def slug(text: str) -> str:
    """Lower-case words joined by hyphens: ``'ViT-S/16'`` is 'vit-s-16'."""
    return re.sub('[^a-z0-9]+', '-', text.lower()).strip('-')


def _row(record: Dict[str, str]) -> PublishedRow:
    better = record['higher_is_better']
    typed: Dict[str, Any] = dict(record)
    typed.update(
        value=float(record['value']),
        higher_is_better=None if better == '' else better == '1',
        owned_by_paper=record['owned_by_paper'] == '1',
        is_best_in_table=record['is_best_in_table'] == '1',
        printed=record['value'],
    )
    return PublishedRow(**typed)


@lru_cache(maxsize=1)
def _all_rows() -> Tuple[PublishedRow, ...]:
    with FILE.open(encoding='utf-8', newline='') as stream:
        return tuple(_row(record) for record in csv.DictReader(stream))


def published_rows(
    paper: Optional[str] = None,
    table: Optional[str] = None,
    owned: Optional[bool] = None,
    **columns: Any,
) -> List[PublishedRow]:
    """Numbers of the tables, in their order.

    Args:
        paper (str, optional): Keep those of a paper, in any case.
        table (str, optional): Keep those of a table, ``'Paper:Table 1'``.
        owned (bool, optional): Keep those of the papers' own methods
            (True) or the others (False).
        **columns: Other columns of :class:`PublishedRow` and the value that
            they have to have.

    Returns:
        List[PublishedRow]: The rows.

    Raises:
        UserValueError: If no paper has that name.
    """
    rows = list(_all_rows())
    if paper is not None:
        papers = {row.paper.lower(): row.paper for row in rows}
        if paper.lower() not in papers:
            raise UserValueError(
                f'No paper is called {paper!r}; there are '
                f'{", ".join(papers.values())}.'
            )
        rows = [row for row in rows if row.paper.lower() == paper.lower()]
    if table is not None:
        rows = [row for row in rows if row.source_table == table]
    if owned is not None:
        rows = [row for row in rows if row.owned_by_paper == owned]
    return [
        row
        for row in rows
        if all(getattr(row, k) == value for k, value in columns.items())
    ]


def table_slug(table: str) -> str:
    """``'SelfPatch:Table 1'`` is ``'selfpatch/table-1'``."""
    paper, _, name = table.partition(':')
    return f'{slug(paper)}/{slug(name)}'


def find_tables(texts: List[str], paper: Optional[str] = None) -> List[str]:
    """Tables by name, slug or a part of the slug.

    Args:
        texts (List[str]): Such as ``'SelfPatch:Table 1'``,
            ``'selfpatch/table-1'`` or ``'table-1'``; none for all.
        paper (str, optional): Only tables of this paper.

    Returns:
        List[str]: Values of ``source_table``, in the order of the file.

    Raises:
        UserValueError: If one matches nothing; names the nearest.
    """
    tables = list(
        dict.fromkeys(row.source_table for row in published_rows(paper))
    )
    if not texts:
        return tables
    chosen = set()
    for text in texts:
        wanted = text.lower()
        exact = [t for t in tables if wanted in (t.lower(), table_slug(t))]
        part = wanted.strip('/')
        found = exact or [
            t for t in tables if part in table_slug(t) or part in t.lower()
        ]
        if not found:
            slugs = [table_slug(t) for t in tables]
            near = difflib.get_close_matches(part, slugs, 3, 0.3)
            raise UserValueError(
                f'No table matches {text!r}. Nearest: '
                f'{", ".join(near or slugs[:3])}.'
            )
        chosen.update(found)
    return [table for table in tables if table in chosen]


def _base(row: PublishedRow) -> str:
    parts = (slug(row.method), slug(row.backbone), slug(row.dataset))
    return '/'.join([table_slug(row.source_table), *filter(None, parts)])


@lru_cache(maxsize=1)
def lines() -> Dict[str, Tuple[PublishedRow, ...]]:
    """Lines of the tables: the numbers of all metrics under one key.

    Returns:
        Dict[str, Tuple[PublishedRow, ...]]: Key, as of :func:`row_key`, to
        rows; in the order of the file.
    """
    heads: Dict[str, set] = {}
    settings: Dict[Tuple[str, str], set] = {}
    for row in _all_rows():
        base = _base(row)
        heads.setdefault(base, set()).add(row.head_or_protocol)
        settings.setdefault((base, row.head_or_protocol), set()).add(
            row.setting
        )
    found: Dict[str, List[PublishedRow]] = {}
    for row in _all_rows():
        base = _base(row)
        parts = [base]
        if len(heads[base]) > 1:
            parts.append(slug(row.head_or_protocol))
        if len(settings[base, row.head_or_protocol]) > 1:
            parts.append(slug(row.setting))
        found.setdefault('/'.join(filter(None, parts)), []).append(row)
    return {key: tuple(rows) for key, rows in found.items()}


@lru_cache(maxsize=1)
def _keys() -> Dict[PublishedRow, str]:
    return {row: key for key, rows in lines().items() for row in rows}


def row_key(row: PublishedRow) -> str:
    """Key of the line that a number stands in.

    ``paper/table/method/backbone/dataset``, then head and setting where the
    table has several for these. All metrics of a line share its key.

    Args:
        row (PublishedRow): A row of :func:`published_rows`.

    Returns:
        str: Such as ``'selfpatch/table-1/dino-selfpatch/vit-s-16/coco-2017'``.
    """
    return _keys()[row]


def find_key(text: str) -> str:
    """Key of a line by itself or by a part that no other key has.

    Args:
        text (str): Key or part of one.

    Returns:
        str: The key.

    Raises:
        UserValueError: If no line, or more than one, has it.
    """
    keys = list(lines())
    wanted = text.lower().strip('/')
    if wanted in keys:
        return wanted
    found = [key for key in keys if wanted in key]
    if len(found) == 1:
        return found[0]
    if found:
        more = f' and {len(found) - 8} more' if len(found) > 8 else ''
        raise UserValueError(
            f'{text!r} is part of {len(found)} rows: '
            f'{", ".join(found[:8])}{more}. Give more of the key.'
        )
    near = difflib.get_close_matches(wanted, keys, 4, 0.3)
    raise UserValueError(
        f'No published row has the key {text!r}. Nearest: '
        f'{", ".join(near) or "none"}. tools/benchmarks/table.py --keys '
        'lists all.'
    )


def select_rows(selector: Mapping[str, Any]) -> Tuple[PublishedRow, ...]:
    """Rows that an entry of ``Reproduces`` in a metafile names.

    Args:
        selector (Mapping[str, str]): ``Table``, ``Method`` and ``Dataset``;
            further ``Backbone``, ``Protocol``, ``Setting``, ``Split`` and
            ``Metric`` as far as needed, all spelled as in the table.

    Returns:
        Tuple[PublishedRow, ...]: The metrics of one line, at least one.

    Raises:
        UserValueError: If a key is unknown or missing, nothing matches, or
            more than one line does.
    """
    said = ', '.join(f'{k}: {v}' for k, v in selector.items())
    unknown = sorted(set(selector) - set(SELECTOR_COLUMNS))
    missing = [key for key in _REQUIRED if key not in selector]
    if unknown or missing:
        raise UserValueError(
            f'Reproduces ({said}): unknown keys {unknown}, missing keys '
            f'{missing}; possible are {", ".join(SELECTOR_COLUMNS)}.'
        )
    rows: Tuple[PublishedRow, ...] = _all_rows()
    for key, column in SELECTOR_COLUMNS.items():
        if key not in selector:
            continue
        left = tuple(
            row for row in rows if getattr(row, column) == selector[key]
        )
        if not left:
            there = list(dict.fromkeys(getattr(r, column) for r in rows))
            near = difflib.get_close_matches(str(selector[key]), there, 3, 0.2)
            raise UserValueError(
                f'Reproduces ({said}): no published row has {key}: '
                f'{selector[key]!r} beside the keys before it. There are '
                f'{near or there[:5]}.'
            )
        rows = left
    keys = list(dict.fromkeys(row_key(row) for row in rows))
    if len(keys) > 1:
        raise UserValueError(
            f'Reproduces ({said}) matches {len(keys)} lines: '
            f'{", ".join(keys[:4])}. Add '
            f'{", ".join(k for k in SELECTOR_COLUMNS if k not in selector)}.'
        )
    return rows
