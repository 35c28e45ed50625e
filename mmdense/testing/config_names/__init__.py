"""What the name of a config says, and what the config says.

Names of pre-training configs are
``{method}[-{base}[-{switch}]]_{backbone}_{G}xb{B}[-amp]-{sched}-{N}e_{data}
[-{px}px]`` in one word, those of fine-tuning configs
``{head}_{backbone}_{origin}-pre_{G}xb{B}[-amp]-{N}{e|k}_{data}[-{H}x{W}]``,
with G processes of B images, N epochs or thousand iterations, and sides in
pixels, absent where images of several sizes are trained on. What the switches
of a method say is in :data:`SWITCHES`.
"""

from pathlib import Path
from typing import List

from mmengine.config import Config

from .grammar import ConfigName, levels, parse_name, split_origin
from .parts import SWITCHES, method_of, part_problems
from .runs import length_of, run_problems, start_problems, training_size

__all__ = [
    'SWITCHES',
    'ConfigName',
    'length_of',
    'levels',
    'method_of',
    'name_problems',
    'parse_name',
    'split_origin',
    'training_size',
]


def name_problems(path: Path, cfg: Config) -> List[str]:
    """Where the name of a config and the config differ.

    Args:
        path (Path): Config file.
        cfg (Config): What it says, bases included.

    Returns:
        List[str]: One line per difference.

    Raises:
        ValueError: If the name does not follow the grammar.
    """
    name = parse_name(path)
    problems = part_problems(name, cfg.model) + run_problems(name, cfg)
    if name.kind == 'fine-tuning':
        problems += start_problems(name, cfg)
    return problems
