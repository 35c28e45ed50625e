"""Rows that a paper took from elsewhere or that have no public weights.

They have no config on purpose. The reasons stand here and nowhere else.
"""

from typing import List, NamedTuple, Optional

from .published import PublishedRow


class Quoted(NamedTuple):
    """Rows and why they have no config.

    Attributes:
        table (str): Start of ``source_table``.
        methods (List[str]): Values of ``method``; empty for all rows of
            other methods than the paper's own.
        reason (str): Half a sentence.
    """

    table: str
    methods: List[str]
    reason: str


_SYSTEMS = 'taken by the paper from the publications of these systems'
QUOTED = [
    Quoted(
        'LocalGlobal:Table 1',
        ['BEiT (as cited)'],
        'taken by the paper from the BEiT publication',
    ),
    Quoted(
        'LocalGlobal:Table 2',
        ['FCRN-Depth', 'SimCLR', 'BYOL'],
        'taken by the paper from earlier publications',
    ),
    Quoted(
        'SelfPatch:Table 3',
        ['MoCo-v2', 'SwAV', 'DenseCL', 'ReSim', 'DetCo'],
        'the paper does not say which ResNet features are propagated',
    ),
    *(
        Quoted(f'SemCL:Table {name}', [], _SYSTEMS)
        for name in ('3a', '3b', '3c', '5a', '5b', '5c', '7a', '7b', '7c')
    ),
    *(
        Quoted(f'DPT:Table {number}', [], _SYSTEMS)
        for number in (1, 2, 3, 4, 5)
    ),
    Quoted(
        'MonoDepthToolbox:',
        [],
        'model zoo of another repository, given for comparison',
    ),
]


def quoted_reason(row: PublishedRow) -> Optional[str]:
    """Why a row has no config on purpose.

    Args:
        row (PublishedRow): A published row.

    Returns:
        str or None: None if it should have one.
    """
    if row.owned_by_paper:
        return None
    for entry in QUOTED:
        # 'DPT:Table 1' is no start of 'DPT:Table 10'
        exact = row.source_table == entry.table or (
            entry.table.endswith(':')
            and row.source_table.startswith(entry.table)
        )
        if exact and (not entry.methods or row.method in entry.methods):
            return entry.reason
    return None
