"""Grammar of the names of configs."""

import ast
import re
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

_WORD = r'[a-z0-9]+(?:-[a-z0-9]+)*'
_BATCH = r'(?P<gpus>\d+)xb(?P<batch>\d+)(?P<amp>-amp)?'
_LENGTH = r'(?P<length>\d+(?:\.\d+)?)(?P<unit>[ek])'
_GRAMMARS = {
    'pre-training': (
        rf'(?P<method>{_WORD})_(?P<backbone>{_WORD})_{_BATCH}-'
        rf'(?P<schedule>[a-z]+)-{_LENGTH}_(?P<data>{_WORD}?)'
        r'(?:-(?P<height>\d+)px)?'
    ),
    'fine-tuning': (
        rf'(?P<method>{_WORD})_(?P<backbone>{_WORD})_(?P<origin>{_WORD})-pre_'
        rf'{_BATCH}-{_LENGTH}_(?P<data>{_WORD}?)'
        r'(?:-(?P<height>\d+)x(?P<width>\d+))?'
    ),
}


class ConfigName(NamedTuple):
    """Parts of the name of a config.

    Attributes:
        kind (str): ``'pre-training'`` or ``'fine-tuning'``.
        method (str): Method, or head of a fine-tuning config.
        backbone (str): Such as ``'vit-small-p16'`` or ``'swin-tiny-w7'``.
        origin (str, optional): What a fine-tuning config starts from, with
            its length if stated.
        gpus (int): Number of processes.
        batch (int): Images per process.
        amp (bool): Mixed precision.
        schedule (str, optional): Learning rate, such as ``'coslr'``.
        length (int): Epochs, or iterations.
        unit (str): ``'epochs'`` or ``'iterations'``.
        data (str): Data set and variant.
        size (Tuple[int, int], optional): Training height and width in
            pixels; None where images of several sizes are trained on.
    """

    kind: str
    method: str
    backbone: str
    origin: Optional[str]
    gpus: int
    batch: int
    amp: bool
    schedule: Optional[str]
    length: int
    unit: str
    data: str
    size: Optional[Tuple[int, int]]


def parse_name(path: Path) -> ConfigName:
    """Take the name of a config apart.

    Args:
        path (Path): Config; those in ``benchmarks`` are fine-tuning ones.

    Returns:
        ConfigName: Its parts.

    Raises:
        ValueError: If the name does not follow the grammar.
    """
    kind = 'fine-tuning'
    if path.parent.name != 'benchmarks' and '-pre_' not in path.stem:
        kind = 'pre-training'
    match = re.fullmatch(_GRAMMARS[kind], path.stem)
    if match is None:
        raise ValueError(
            f'{path.name} is no name of a {kind} config, see '
            'mmdense/testing/config_names/.'
        )
    part = match.groupdict()
    epochs = part['unit'] == 'e'
    side = part['height'] or (224 if kind == 'pre-training' else None)
    return ConfigName(
        kind=kind,
        method=part['method'],
        backbone=part['backbone'],
        origin=part.get('origin'),
        gpus=int(part['gpus']),
        batch=int(part['batch']),
        amp=part['amp'] is not None,
        schedule=part.get('schedule'),
        length=round(float(part['length']) * (1 if epochs else 1000)),
        unit='epochs' if epochs else 'iterations',
        data=part['data'],
        size=(int(side), int(part.get('width') or side)) if side else None,
    )


def split_origin(origin: str) -> Tuple[str, Optional[str]]:
    """Take the length off an origin.

    Args:
        origin (str): Such as ``'dino-300e'`` or ``'semcl-ade-30k'``.

    Returns:
        Tuple[str, str or None]: Word and length, ``('dino', '300e')``.
    """
    match = re.fullmatch(r'(.+?)(?:-([\d.]+[ek]))?', origin)
    assert match is not None
    return match[1], match[2]


def levels(path: Path) -> int:
    """Levels of inheritance of a config, itself included.

    A file of ``_base_`` or of another package counts as one, whatever it
    inherits from.

    Args:
        path (Path): Config file.

    Returns:
        int: 1 for a config without ``_base_``.
    """
    bases: List[str] = []
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and any(
            getattr(target, 'id', '') == '_base_' for target in node.targets
        ):
            value = ast.literal_eval(node.value)
            bases = [value] if isinstance(value, str) else list(value)
    depths = [
        1 if '::' in base or '_base_' in base else levels(path.parent / base)
        for base in bases
    ]
    return 1 + max(depths, default=0)
