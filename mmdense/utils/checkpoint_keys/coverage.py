"""What a file holds of what a backbone needs."""

import math
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Sequence, Tuple

from torch import Tensor

from .layouts import CheckpointKeyError

# Not learnt: rebuilt by the model or counters.
_NOT_COUNTED = ('relative_position_index', 'num_batches_tracked', 'attn_mask')

# First convolutions of the kinds of ResNet: torchvision, ResNetV1c of the
# OpenMMLab packages, timm's resnet*d.
_STEMS = {
    'conv1.weight': 'one 7x7 convolution (ResNet)',
    'stem.0.weight': 'three 3x3 convolutions (ResNetV1c, deep_stem=True)',
    'conv1.0.weight': "three 3x3 convolutions (timm's resnet*d)",
}

Shape = Tuple[int, ...]


class CoverageError(CheckpointKeyError):
    """A file that holds too little of the backbone it is loaded into.

    Args:
        coverage (Coverage): The comparison.
        min_match (float): The share that was asked for.
    """

    def __init__(self, coverage: 'Coverage', min_match: float) -> None:
        self.coverage = coverage
        super().__init__(
            f'Only {coverage.share:.1%} of the backbone parameters are in '
            f'the file, {min_match:.0%} were asked for (min_match). Wrong '
            'file, arch or branch?\n' + coverage.table()
        )


@dataclass
class Coverage:
    """Comparison of a file with the keys and shapes of a backbone.

    Attributes:
        matched (List[str]): Same name and shape (after resizing).
        resized (Dict[str, str]): Matched after a resize; says from what.
        missing (List[str]): Of the backbone, not in the file.
        mismatched (Dict[str, str]): Same name, another shape.
        unexpected (List[str]): In the file, not of the backbone.
        dropped (List[str]): Known to be no part of a backbone: heads, other
            branches, buffers.
        values (int): Parameter values of the backbone.
        matched_values (int): Those of them that are in the file.
    """

    matched: List[str] = field(default_factory=list)
    resized: Dict[str, str] = field(default_factory=dict)
    missing: List[str] = field(default_factory=list)
    mismatched: Dict[str, str] = field(default_factory=dict)
    unexpected: List[str] = field(default_factory=list)
    dropped: List[str] = field(default_factory=list)
    values: int = 0
    matched_values: int = 0

    @property
    def share(self) -> float:
        """Share of the backbone's parameter values that are in the file."""
        return self.matched_values / self.values if self.values else 0.0

    def table(self, examples: int = 4) -> str:
        """Counts with example keys, one row a group.

        Args:
            examples (int): Keys to name in each row. Defaults to 4.

        Returns:
            str: Several lines.
        """
        rows: List[Tuple[str, Sequence[str]]] = [
            ('matched', [k for k in self.matched if k not in self.resized]),
            ('resized', [f'{k} {v}' for k, v in self.resized.items()]),
            ('missing', self.missing),
            ('mismatched', [f'{k} {v}' for k, v in self.mismatched.items()]),
            ('unexpected', self.unexpected),
            ('dropped', self.dropped),
        ]
        lines = []
        for name, keys in rows:
            shown = [] if name == 'matched' else list(keys[:examples])
            if 0 < len(shown) < len(keys):
                shown.append('...')
            text = f'{name:<11}{len(keys):>5}  {", ".join(shown)}'
            lines.append(text.rstrip())
        lines.append(
            f'{"share":<11}{self.share:>6.1%} of {self.values:,} values'
        )
        return '\n'.join(lines)

    def check(self, min_match: float) -> None:
        """Refuse a file that holds too little.

        Args:
            min_match (float): Smallest share, 0 to 1.

        Raises:
            CoverageError: With the table, if the share is below.
            CheckpointKeyError: If file and model are ResNets with different
                stems, whose share is above 0.99 though the first layer would
                stay random. Not with ``min_match=0``.
        """
        if self.share < min_match:
            raise CoverageError(self, min_match)
        wanted = [name for name in _STEMS if name in self.missing]
        found = [name for name in _STEMS if name in self.unexpected]
        if min_match > 0 and wanted and found:
            raise CheckpointKeyError(
                f'The stem of the model is {_STEMS[wanted[0]]}, that of the '
                f'file {_STEMS[found[0]]}: it would stay random. Set '
                "backbone.type to the kind of the file (type='ResNet' for "
                'the public self-supervised weights), or min_match=0 to go '
                'on without.'
            )


def compare(
    state: Mapping[str, Tensor],
    expected: Mapping[str, Shape],
    resized: Mapping[str, str] = {},  # noqa: B006 - never written to
    dropped: Sequence[str] = (),
) -> Coverage:
    """Compare a state dict with what a backbone expects.

    Args:
        state (Mapping[str, Tensor]): Entries in the backbone's own layout.
        expected (Mapping[str, Tuple[int, ...]]): Shapes of the backbone.
        resized (Mapping[str, str]): Keys that were resized, with a text.
        dropped (Sequence[str]): Keys of the file left out on purpose.

    Returns:
        Coverage: The comparison.
    """
    out = Coverage(dropped=list(dropped))
    for key, shape in expected.items():
        if key.endswith(_NOT_COUNTED):
            continue
        size = math.prod(shape)
        out.values += size
        if key not in state:
            out.missing.append(key)
        elif tuple(state[key].shape) != tuple(shape):
            found = 'x'.join(map(str, state[key].shape)) or 'scalar'
            wanted = 'x'.join(map(str, shape)) or 'scalar'
            out.mismatched[key] = f'({found}, wanted {wanted})'
        else:
            out.matched.append(key)
            out.matched_values += size
            if key in resized:
                out.resized[key] = resized[key]
    out.unexpected = [
        k for k in state if k not in expected and not k.endswith(_NOT_COUNTED)
    ]
    return out
