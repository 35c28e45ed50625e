"""What the checks of all parts share."""

import os.path as osp
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import (
    Callable,
    Dict,
    List,
    Mapping,
    Optional,
    Sequence,
    TypeVar,
    Union,
)

from .parts import Layout, Part
from .render import how_to_get
from .report import Finding, Report, first
from .scan import Listing, archives_near, find_elsewhere

Item = TypeVar('Item')
Result = TypeVar('Result')
# official files hold a few odd entries themselves
RARE = 1e-3
# files that wait for a thread at a time
_CHUNK = 256


@dataclass
class Context:
    """One run of the checker.

    Attributes:
        root (str): Folder of the data set.
        layout (Layout): How it should lie there.
        report (Report): Where findings go.
        counts (str or Mapping[str, int]): 'published' compares with the
            layout; 'any' takes what is there; a mapping gives own numbers by
            'part.what' and takes the others as they are.
        sample (int, optional): Files to open per part, None for all.
        workers (int): Threads that open files.
        progress (bool): Whether to write progress to stderr.
    """

    root: str
    layout: Layout
    report: Report
    counts: Union[str, Mapping[str, int]] = 'published'
    sample: Optional[int] = 200
    workers: int = 4
    progress: bool = False
    listings: Dict[tuple, Listing] = field(default_factory=dict)

    def path(self, relative: str) -> str:
        """Where something of the data set is on the disk."""
        return osp.join(self.root, relative) if relative else self.root

    def say(
        self,
        level: str,
        code: str,
        part: Part,
        where: str,
        text: str,
        fix: str = '',
        names: Sequence[str] = (),
    ) -> None:
        """Add a finding; what no config reads is never an error.

        Args:
            level (str): 'error', 'warning' or 'note'.
            code (str): Kind of the finding.
            part (Part): What it is about.
            where (str): Folder or file, relative to the root.
            text (str): What is wrong.
            fix (str): What to do. Defaults to ''.
            names (Sequence[str]): Files that it is about; the first few are
                kept. Defaults to ().
        """
        if part.optional and level == 'error':
            level = 'note' if code == 'missing' else 'warning'
        self.report.findings.append(
            Finding(level, code, part.key, where, text, fix, first(names))
        )

    def count(
        self,
        part: Part,
        what: str,
        found: int,
        published: Optional[int],
        where: str,
    ) -> None:
        """Compare a number with the published one.

        Args:
            part (Part): What is counted.
            what (str): Word for it.
            found (int): How many there are.
            published (int, optional): How many there should be.
            where (str): Folder or file, relative to the root.
        """
        name = f'{part.key}.{what}'
        if self.counts == 'any':
            expected = None
        elif isinstance(self.counts, str):
            expected = published
        else:
            expected = self.counts.get(name)
        self.report.counts[name] = dict(found=found, expected=expected)
        if expected is None or found == expected:
            return
        if found < expected:
            fix = ''
            packed = archives_near(self.root, where)
            if packed:
                fix = f'Not unpacked? {", ".join(first(packed))}\n'
            self.say(
                'error',
                'too few',
                part,
                where,
                f'{found:,} {what}, {expected:,} expected: '
                f'{expected - found:,} missing.',
                fix + how_to_get(self.layout, part.step),
            )
        else:
            self.say(
                'warning',
                'too many',
                part,
                where,
                f'{found:,} {what}, {expected:,} expected: '
                f'{found - expected:,} too many. Published results were '
                'made without them.',
            )

    def same(
        self,
        part: Part,
        what: str,
        found: int,
        published: Optional[int],
        where: str,
    ) -> None:
        """Compare a number that a part of the data set has as well.

        Args:
            part (Part): What is counted.
            what (str): Word for it.
            found (int): How many there are.
            published (int, optional): How many there should be, whatever
                ``counts`` says unless it gives this number.
            where (str): File, relative to the root.
        """
        name = f'{part.key}.{what}'
        expected = published
        if not isinstance(self.counts, str):
            expected = self.counts.get(name, published)
        self.report.counts[name] = dict(found=found, expected=expected)
        if expected is not None and found != expected:
            self.say(
                'error',
                f'other {what}',
                part,
                where,
                f'{found:,} {what} instead of {expected:,}: this file is of '
                'another data set.',
                how_to_get(self.layout, part.step),
            )

    def missing(self, part: Part, path: str) -> None:
        """Say that a folder or file is not there."""
        kind = 'file' if path in part.files else 'folder'
        text = f'There is no {kind} {path}.'
        full = self.path(path)
        if osp.islink(full):
            text = f'{path} is a link to something that is not there.'
        if osp.exists(full):
            other = 'folder' if kind == 'file' else 'file'
            text = f'{path} should be a {kind} and is a {other}.'
        packed = archives_near(self.root, path)
        fix = how_to_get(self.layout, part.step)
        places = find_elsewhere(self.root, path)
        elsewhere = [place for place in places if place != path]
        if elsewhere:
            text += f' It lies at {", ".join(elsewhere)}: move or link it.'
        elif packed:
            text += f' Not unpacked yet? {", ".join(first(packed))}'
        self.say('error', 'missing', part, path, text, fix)

    def pick(self, items: Sequence[Item]) -> List[Item]:
        """The sample to open: evenly spaced, the same in every run.

        Args:
            items (Sequence[Item]): All, in a fixed order.

        Returns:
            List[Item]: All of them, or ``sample`` with the first and last.
        """
        total, size = len(items), self.sample
        if size is None or total <= size:
            return list(items)
        if size < 2:
            return list(items[:size])
        return [items[i * (total - 1) // (size - 1)] for i in range(size)]

    def run(
        self,
        part: Part,
        function: Callable[[Item], Result],
        items: Sequence[Item],
    ) -> List[Result]:
        """Apply a function to many files, in threads, with progress.

        Args:
            part (Part): Named in the progress line.
            function (Callable): Called once per item.
            items (Sequence): Its arguments.

        Returns:
            List: Results in the order of the items.
        """
        opened = self.report.opened
        opened[part.key] = opened.get(part.key, 0) + len(items)
        results: List[Result] = []
        with warnings.catch_warnings():
            # of pictures: odd EXIF entries, many pixels
            warnings.simplefilter('ignore')
            with ThreadPoolExecutor(max(1, self.workers)) as pool:
                for start in range(0, len(items), _CHUNK):
                    chunk = items[start : start + _CHUNK]
                    results += pool.map(function, chunk)
                    self._show(part, len(results), len(items))
        return results

    def _show(self, part: Part, done: int, total: int) -> None:
        """Write a line of progress over the one before."""
        if self.progress:
            bar = '#' * (30 * done // total)
            print(
                f'\r{part.key:<16.16} [{bar:<30}] {done:,}/{total:,}',
                end='\n' if done == total else '',
                file=sys.stderr,
                flush=True,
            )
