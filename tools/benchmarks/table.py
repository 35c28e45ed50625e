"""The papers' tables with the numbers measured here beside them.

A table is given by its name ('SelfPatch:Table 1'), its short form
('selfpatch/table-1') or a part of that ('table-1').

Examples:
    python tools/benchmarks/table.py selfpatch/table-1 --runs work_dirs
    python tools/benchmarks/table.py --paper LocalGlobal --format html \
        --out tables.html
    python tools/benchmarks/table.py --missing --paper SelfPatch
    python tools/benchmarks/table.py --todo \
        selfpatch/table-1/dino-selfpatch/vit-s-16/coco-2017
"""

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import Dict, List

from mmdense.apis.model_zoo import zoo_root
from mmdense.apis.running import exit_on_user_error
from mmdense.results.compare import compare, orphans
from mmdense.results.plan import plan_text, plans
from mmdense.results.published import (
    find_tables,
    lines,
    published_rows,
)
from mmdense.results.render import FORMATS, render
from mmdense.results.rows import RowWarning, read_rows
from mmdense.results.zoo import WAITS_FOR, Zoo
from mmdense.utils.errors import UserValueError

SUFFIXES = {'.csv': 'csv', '.html': 'html', '.htm': 'html'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('tables', nargs='*', metavar='TABLE', help='default: all')
    add('--paper', help='LocalGlobal, SelfPatch, SemCL, DPT, ...')
    add('--runs', help='folder below which tests left their rows')
    add('--format', choices=FORMATS, help='default: that of --out, markdown')
    add('--out', help='file to write; default: the standard output')
    add(
        '--any-protocol',
        action='store_true',
        help='also compare runs of another protocol, a changed config, '
        'another batch, other or unknown starting weights',
    )
    # what to print in place of the tables
    other = parser.add_mutually_exclusive_group().add_argument
    other(
        '--missing',
        action='store_true',
        help="list rows of the papers' own methods without a config",
    )
    add(
        '--baselines',
        action='store_true',
        help='with --missing: the rows of other methods too',
    )
    add(
        '--waiting',
        action='store_true',
        help='with --missing: also the rows whose config waits for that of a '
        'pre-training, which are counted otherwise',
    )
    other('--todo', metavar='ROW', help='print the commands for a row')
    other('--keys', action='store_true', help='list the keys of all rows')
    args = parser.parse_args()
    check_args(parser, args)
    return args


def check_args(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> None:
    """Refuse options that would be ignored."""
    for name in ('baselines', 'waiting'):
        if getattr(args, name) and not args.missing:
            parser.error(f'--{name} goes with --missing')
    if args.todo is not None:
        if not args.todo.strip():
            parser.error('--todo needs the key of a row, or a config')
        if args.tables or args.paper:
            parser.error('--todo ROW takes neither TABLE nor --paper')
    given = {'--missing': args.missing, '--keys': args.keys}
    given['--todo'] = args.todo is not None
    for option in [name for name, is_given in given.items() if is_given]:
        if args.runs or args.any_protocol:
            parser.error(f'{option} takes neither --runs nor --any-protocol')
        named = Path(args.out or '').suffix.lower() in SUFFIXES
        if args.format or named:
            parser.error(
                f'{option} writes plain text: leave --format out and let '
                '--out end in .txt'
            )
    if args.any_protocol and not args.runs:
        parser.error('--any-protocol goes with --runs')


def check_out(out: str) -> None:
    """Say before the work that a file cannot be written.

    Raises:
        UserValueError: If it is a folder, or below a file.
    """
    if os.path.isdir(out):
        raise UserValueError(f'--out {out} is a folder; name a file.')
    for parent in Path(out).absolute().parents:
        if os.path.exists(parent) and not os.path.isdir(parent):
            raise UserValueError(
                f'--out {out} cannot be written: {parent} is a file.'
            )


def _by_table(found: Dict[str, str]) -> List[str]:
    """Lines for keys with a remark, below the titles of their tables."""
    rows, table = [], ''
    for key, remark in found.items():
        here = lines()[key][0].source_table
        if here != table:
            rows += ['', here]
            table = here
        rows.append(f'  {key}  [{remark}]' if remark else f'  {key}')
    return rows


def missing_text(
    found: Dict[str, List[str]], total: int, whose: str, all_waiting: bool
) -> str:
    """List of rows that cannot be measured, grouped by table.

    Args:
        found (Dict[str, List[str]]): Of :meth:`Zoo.missing`.
        total (int): Rows that were looked at.
        whose (str): Whose rows they are.
        all_waiting (bool): List those whose config waits for a pre-training
            config of ours too.

    Returns:
        str: Several lines: rows without a config, those that wait, counts.
    """
    none = {k: '' for k, v in found.items() if v == ['no config']}
    waiting = {
        key: f'waits for {problems[0][len(WAITS_FOR) :]}'
        for key, problems in found.items()
        if problems[0].startswith(WAITS_FOR)
    }
    others = {k: v[0] for k, v in found.items() if k not in waiting}
    first = {k: '' if k in none else v for k, v in others.items()}
    quoted = sum(text.startswith('quoted: ') for text in others.values())
    rows = _by_table(first)
    if waiting and all_waiting:
        title = 'With a config that waits for one of a pre-training:'
        rows += ['', title, *_by_table(waiting)]
    count = len(found) - quoted - len(none)
    text = (
        f'{whose}: {total - len(found)} of {total} rows have a config, '
        f'{count} have one whose pre-training is missing, {len(none)} have '
        'none'
    )
    if quoted:
        text += f', {quoted} are quoted and have none on purpose'
    if waiting and not all_waiting:
        text += '; --waiting lists those without their pre-training'
    return '\n'.join([*rows, '', f'{text}.', '']).lstrip('\n')


def list_missing(zoo: Zoo, args: argparse.Namespace) -> str:
    tables = find_tables(args.tables, args.paper)
    parts = []
    for owned in (True, False) if args.baselines else (True,):
        keys = [
            key
            for key, rows in lines().items()
            if rows[0].owned_by_paper == owned
            and rows[0].source_table in tables
        ]
        found = zoo.missing(args.paper, owned)
        found = {key: found[key] for key in keys if key in found}
        whose = "the papers' own methods" if owned else 'other methods'
        text = missing_text(found, len(keys), whose, args.waiting)
        parts.append(text)
    return '\n'.join(parts)


def keys_text(args: argparse.Namespace) -> str:
    tables = find_tables(args.tables, args.paper)
    return ''.join(
        f'{key}\n'
        for key, rows in lines().items()
        if rows[0].source_table in tables
    )


def tables_text(zoo: Zoo, args: argparse.Namespace) -> str:
    runs = read_rows(args.runs) if args.runs else []
    tables = find_tables(args.tables, args.paper)
    results = [compare(t, zoo, runs, args.any_protocol) for t in tables]
    form = args.format
    if form is None:
        suffix = Path(args.out or '').suffix.lower()
        form = SUFFIXES.get(suffix, 'markdown')
    links = ''
    if args.out:
        here = os.path.realpath(os.path.dirname(args.out) or '.')
        links = os.path.relpath(zoo.root, here).replace(os.sep, '/') + '/'
        links = '' if links == './' else links
    others = orphans(runs, zoo)
    if others:
        names = sorted({str(run.config) for run in others})
        print(
            f'note: {len(others)} run(s) of configs that reproduce no '
            f'published row: {", ".join(names)}',
            file=sys.stderr,
        )
    return render(results, form, links)


def show_warning(message, *_args, **_kwargs) -> None:
    print(f'warning: {message}', file=sys.stderr)


@exit_on_user_error
def main() -> None:
    args = parse_args()
    # a broken row is told in one line, the toolboxes' warnings are not
    warnings.simplefilter('ignore')
    warnings.simplefilter('always', RowWarning)
    warnings.showwarning = show_warning
    if args.out:
        check_out(args.out)
    published_rows(args.paper)
    zoo = Zoo(zoo_root())
    if args.todo is not None:
        text = '\n'.join(plan_text(plan) for plan in plans(zoo, args.todo))
    elif args.keys:
        text = keys_text(args)
    elif args.missing:
        text = list_missing(zoo, args)
    else:
        text = tables_text(zoo, args)
    if args.out:
        try:
            Path(args.out).parent.mkdir(parents=True, exist_ok=True)
            Path(args.out).write_text(text, encoding='utf-8')
        except OSError as error:
            raise UserValueError(
                f'--out {args.out} cannot be written: {error}'
            ) from error
        print(f'wrote {args.out}')
    else:
        print(text, end='')


if __name__ == '__main__':
    main()
