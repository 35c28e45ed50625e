"""Compared tables as Markdown, CSV and HTML."""

import csv
import html
import io
from typing import Dict, List, NamedTuple, Optional, Sequence

from .compare import NOT_FINITE, Measured, Result, digits, metrics_of
from .metric_names import table_name
from .published import PublishedRow, row_key

FORMATS = ('markdown', 'csv', 'html')
NO_CONFIG, NOT_MEASURED = 'no config', 'not measured yet'
_CSV_COLUMNS = (
    *('table', 'key', 'method', 'backbone', 'dataset', 'split', 'head'),
    *('setting', 'metric', 'unit', 'published', 'measured', 'difference'),
    *('better', 'spread', 'best', 'runs', 'protocol', 'config', 'notes'),
)
_STYLE = """
body { font: 14px/1.4 sans-serif; margin: 2em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { border: 1px solid #bbb; padding: 3px 8px; text-align: left; }
th { background: #eee; }
td.better { background: #d6f0d6; }
td.worse { background: #f7d9d6; }
td.equal { background: #eef3fb; }
tr.own td:first-child { font-weight: bold; }
"""


class Cell(NamedTuple):
    """Text of a cell and how to colour it."""

    text: str
    kind: str = ''


def _number(value: float, row: PublishedRow) -> str:
    return f'{value:.{digits(row.printed)}f}'


def _signed(value: float, row: PublishedRow) -> str:
    text = f'{value:+.{digits(row.printed)}f}'
    # no sign on zero
    return text[1:] if float(text) == 0 else text


def measured_text(row: PublishedRow, found: Measured) -> str:
    """``'40.9 ± 0.2 (-0.3)'`` with the digits of the table."""
    spread = ''
    if found.spread is not None:
        spread = f' ± {_number(found.spread, row)}'
    difference = _signed(found.difference, row)
    return f'{_number(found.mean, row)}{spread} ({difference})'


def _metric_cell(result: Result, metric: str) -> Cell:
    row = next((r for r in result.rows if r.metric == metric), None)
    if row is None:
        return Cell('')
    found = result.measured.get(metric)
    if found is None:
        return Cell(row.printed)
    if found.better is None:
        kind = 'equal'
    else:
        kind = 'better' if found.better else 'worse'
    return Cell(f'{row.printed} → {measured_text(row, found)}', kind)


def _state(result: Result) -> str:
    """What the column ``runs`` says."""
    if result.config is None:
        quoted = any(n.startswith('quoted') for n in result.notes)
        return 'quoted' if quoted else ''
    if result.runs:
        return str(len(result.runs))
    return 'refused' if result.refused else NOT_MEASURED


def _values(results: Sequence[Result], name: str) -> List[str]:
    """Distinct values of a column, without the empty one."""
    values = [getattr(r.rows[0], name) for r in results]
    return list(dict.fromkeys(filter(None, values)))


def _columns(results: Sequence[Result]) -> List[str]:
    """Columns that differ, or mean something, in this table."""
    columns = ['method', 'backbone']
    for name in ('dataset', 'head_or_protocol', 'setting'):
        if len(_values(results, name)) > 1:
            columns.append(name)
    return columns


_TITLES = {
    'method': 'Method',
    'backbone': 'Backbone',
    'dataset': 'Dataset',
    'head_or_protocol': 'Head',
    'setting': 'Setting',
}


def _unit(results: Sequence[Result], metric: str) -> str:
    for result in results:
        for row in result.rows:
            if row.metric == metric:
                arrow = {True: ' ↑', False: ' ↓', None: ''}
                return f' ({row.unit}){arrow[row.higher_is_better]}'
    return ''


def _head(results: Sequence[Result]) -> List[str]:
    titles = [_TITLES[name] for name in _columns(results)]
    titles += [f'{m}{_unit(results, m)}' for m in metrics_of(results)]
    return [*titles, 'Protocol', 'Runs', 'Config']


def _cells(results: Sequence[Result]) -> List[List[Cell]]:
    columns, metrics = _columns(results), metrics_of(results)
    table = []
    for result in results:
        row = result.rows[0]
        cells = [Cell(getattr(row, name)) for name in columns]
        cells += [_metric_cell(result, metric) for metric in metrics]
        name = NO_CONFIG if result.config is None else result.config.name
        cells += [Cell(result.protocol), Cell(_state(result)), Cell(name)]
        table.append(cells)
    return table


def notes_of(results: Sequence[Result]) -> List[str]:
    """Notes under a table.

    Each text stands once, after all the rows that it is of.
    """
    found: Dict[str, List[str]] = {}
    for result in results:
        row = result.rows[0]
        about = f'{row.method} {row.backbone}'.strip()
        texts = [r.notes for r in result.rows if r.notes]
        for text in [*texts, *result.notes]:
            own = [] if text.startswith('compared') else [about]
            found.setdefault(text, []).extend(own)
        for text in result.refused:
            found.setdefault(f'not compared: {text}', [])
    return [
        f'{", ".join(dict.fromkeys(rows))}: {text}' if rows else text
        for text, rows in found.items()
    ]


def _caption(results: Sequence[Result]) -> List[str]:
    row = results[0].rows[0]
    said = [row.task]
    for name in ('dataset', 'head_or_protocol', 'setting'):
        values = _values(results, name)
        said += values if len(values) == 1 else []
    text = ', '.join(said)
    counted = sum(bool(r.measured) for r in results)
    return [
        f'{text[:1].upper()}{text[1:]}. Cells: published, and where '
        'measured: published → mean of the runs ± standard deviation '
        '(difference). '
        f'{counted} of {len(results)} rows measured.'
    ]


def _markdown(table: str, results: Sequence[Result], links: str) -> str:
    def safe(text: str) -> str:
        return text.replace('|', '\\|')

    head = _head(results)
    rows = [f'## {table}', '', *_caption(results), '']
    rows.append(f'| {" | ".join(map(safe, head))} |')
    rows.append(f'|{"---|" * len(head)}')
    for result, cells in zip(results, _cells(results)):
        texts = [safe(cell.text) for cell in cells]
        if result.config is not None:
            place = result.config.place
            texts[-1] = f'[{texts[-1]}]({links}{place})'
        rows.append(f'| {" | ".join(texts)} |')
    notes = notes_of(results)
    if notes:
        rows += ['', 'Notes:', '', *(f'- {note}' for note in notes)]
    return '\n'.join(rows) + '\n'


def _is_of(note: str, metrics: Sequence[str]) -> bool:
    """Whether a note says that one of these metrics was not finite."""
    before, _, _ = note.partition(NOT_FINITE)
    raw = before.rsplit(' ', 1)[-1]
    found = table_name(raw) if before != note else None
    return found is not None and found[0] in metrics


def _csv_row(row: PublishedRow, result: Result) -> List[Optional[str]]:
    found = result.measured.get(row.metric)
    numbers: List[str] = [''] * 6
    if found is not None:
        words = {True: 'better', False: 'worse', None: ''}
        spread = '' if found.spread is None else f'{found.spread:.6g}'
        numbers = [
            *(f'{found.mean:.6g}', f'{found.difference:+.4g}'),
            *(words[found.better], spread, f'{found.best:.6g}'),
            str(found.runs),
        ]
    # a line of the file is read by itself: notes on the runs stand on the
    # line of each metric, those on one metric on its own
    others = [r.metric for r in result.rows if r.metric != row.metric]
    notes = [row.notes]
    notes += [t for t in result.notes if not _is_of(t, others)]
    notes += [f'not compared: {text}' for text in result.refused]
    notes = list(dict.fromkeys(notes))
    name = '' if result.config is None else result.config.place
    return [
        *(row.source_table, row_key(row), row.method, row.backbone),
        *(row.dataset, row.split, row.head_or_protocol, row.setting),
        *(row.metric, row.unit, row.printed, *numbers),
        *(result.protocol, name, '; '.join(filter(None, notes))),
    ]


def _csv(results: Sequence[Result], header: bool) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator='\n')
    if header:
        writer.writerow(_CSV_COLUMNS)
    for result in results:
        writer.writerows(_csv_row(row, result) for row in result.rows)
    return stream.getvalue()


def _html(table: str, results: Sequence[Result], links: str) -> str:
    lines = [f'<h2>{html.escape(table)}</h2>']
    lines += [f'<p>{html.escape(text)}</p>' for text in _caption(results)]
    lines.append('<table>')
    head = ''.join(f'<th>{html.escape(t)}</th>' for t in _head(results))
    lines.append(f'<tr>{head}</tr>')
    for result, cells in zip(results, _cells(results)):
        texts = []
        for cell in cells:
            kind = f' class="{cell.kind}"' if cell.kind else ''
            texts.append(f'<td{kind}>{html.escape(cell.text)}</td>')
        if result.config is not None:
            place = html.escape(f'{links}{result.config.place}', quote=True)
            name = html.escape(result.config.name)
            texts[-1] = f'<td><a href="{place}">{name}</a></td>'
        own = ' class="own"' if result.rows[0].owned_by_paper else ''
        lines.append(f'<tr{own}>{"".join(texts)}</tr>')
    lines.append('</table>')
    notes = notes_of(results)
    if notes:
        items = ''.join(f'<li>{html.escape(note)}</li>' for note in notes)
        lines.append(f'<p>Notes:</p><ul>{items}</ul>')
    return '\n'.join(lines)


def render(
    tables: Sequence[Sequence[Result]],
    form: str = 'markdown',
    links: str = '',
) -> str:
    """Text of compared tables.

    Args:
        tables (Sequence[Sequence[Result]]): Of
            :func:`~mmdense.results.compare.compare`, none of them empty.
        form (str): One of :data:`FORMATS`. Defaults to 'markdown'.
        links (str): Put in front of the paths of configs, which begin with
            ``configs/``. Defaults to ``''``.

    Returns:
        str: Ends with a newline.
    """
    names = [results[0].rows[0].source_table for results in tables]
    pairs = list(zip(names, tables))
    if form == 'csv':
        return ''.join(
            _csv(results, header=i == 0)
            for i, (_, results) in enumerate(pairs)
        )
    if form == 'markdown':
        return '\n'.join(_markdown(n, r, links) for n, r in pairs)
    body = '\n'.join(_html(n, r, links) for n, r in pairs)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<title>Published and measured</title><style>{_STYLE}</style>'
        f'</head>\n<body>\n{body}\n</body></html>\n'
    )
