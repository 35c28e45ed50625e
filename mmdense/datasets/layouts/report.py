"""What a check found."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One thing to say about a data set.

    Attributes:
        level (str): 'error' (the data set cannot be used as it is),
            'warning' (it can, look at it) or 'note'.
        code (str): Kind of the finding, for programs.
        part (str): Key of the part, '' for the whole data set.
        where (str): Folder or file, relative to the root.
        text (str): What is wrong, in a sentence.
        fix (str): What to do, '' if the text says it.
        examples (Tuple[str, ...]): The first files that it is about.
    """

    level: str
    code: str
    part: str
    where: str
    text: str
    fix: str = ''
    examples: Tuple[str, ...] = ()


@dataclass
class Report:
    """Everything that a check found.

    Attributes:
        dataset (str): Name of the layout.
        root (str): Folder that was checked.
        splits (Tuple[str, ...]): Splits that were checked.
        tasks (Tuple[str, ...]): Tasks that were checked for.
        findings (List[Finding]): In the order of the parts.
        counts (Dict[str, dict]): ``found`` and ``expected`` (None if
            nothing was published) by 'part.what'.
        opened (Dict[str, int]): Files that were opened, by part.
    """

    dataset: str
    root: str
    splits: Tuple[str, ...] = ()
    tasks: Tuple[str, ...] = ()
    findings: List[Finding] = field(default_factory=list)
    counts: Dict[str, Dict[str, Optional[int]]] = field(default_factory=dict)
    opened: Dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """bool: Whether there is no error."""
        return not self.of('error')

    def of(self, level: str) -> List[Finding]:
        """Findings of a level.

        Args:
            level (str): 'error', 'warning' or 'note'.

        Returns:
            List[Finding]: In the order of the parts.
        """
        return [f for f in self.findings if f.level == level]

    def codes(self, level: str = 'error') -> List[str]:
        """Kinds of the findings of a level, in their order.

        Args:
            level (str): 'error', 'warning' or 'note'. Defaults to 'error'.

        Returns:
            List[str]: Codes, repeated where they were found again.
        """
        return [f.code for f in self.of(level)]

    def to_dict(self) -> Dict[str, Any]:
        """The report as it is written to a json file.

        Returns:
            Dict[str, Any]: Plain lists, numbers and strings.
        """
        return dict(
            dataset=self.dataset,
            root=self.root,
            splits=list(self.splits),
            tasks=list(self.tasks),
            ok=self.ok,
            counts=self.counts,
            opened=self.opened,
            findings=[
                dict(vars(f), examples=list(f.examples)) for f in self.findings
            ],
        )

    def lines(self) -> List[str]:
        """The report for people.

        Returns:
            List[str]: Lines without line ends.
        """
        lines = [f'{self.dataset}: {self.root}']
        for name, count in self.counts.items():
            found, expected = count['found'], count['expected']
            of = '' if expected is None else f' of {expected:,}'
            lines.append(f'  {name}: {found:,}{of}')
        opened = sum(self.opened.values())
        lines.append(f'  files opened: {opened:,}')
        said: Set[str] = set()
        for finding in self.findings:
            where = f' [{finding.where}]' if finding.where else ''
            lines.append(f'{finding.level}:{where} {finding.text}')
            lines += [f'    {name}' for name in finding.examples]
            fix = finding.fix.splitlines()
            if finding.fix in said:
                fix = ['(as above)']
            elif finding.fix:
                said.add(finding.fix)
            lines += [f'  > {line}' for line in fix]
        errors, warnings = len(self.of('error')), len(self.of('warning'))
        verdict = 'fine' if self.ok else 'not usable as it is'
        lines.append(
            f'{self.dataset}: {verdict} ({errors} error(s), '
            f'{warnings} warning(s))'
        )
        return [_printable(line) for line in lines]


def _printable(line: str) -> str:
    """The line with line ends and bytes of odd names written out."""
    return ''.join(
        c if c.isprintable() else c.encode('unicode_escape').decode()
        for c in line
    )


def first(names: Sequence[str]) -> Tuple[str, ...]:
    """The first few of many names.

    Args:
        names (Sequence[str]): All of them.

    Returns:
        Tuple[str, ...]: At most five, and how many more there are.
    """
    shown = tuple(names[:_SHOWN])
    more = len(names) - len(shown)
    return (*shown, f'... and {more:,} more') if more else shown
