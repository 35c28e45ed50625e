"""Read what a run logged."""

import json
from pathlib import Path
from typing import Dict, List, Tuple, Union


def read_scalars(work_dir: Union[str, Path]) -> List[Dict[str, float]]:
    """All logged lines of a run, continued runs put together.

    Args:
        work_dir (str or Path): Work dir of a mmengine run; holds
            ``<time>/vis_data/scalars.json`` for each start.

    Returns:
        List[dict]: Training lines have ``iter``, validation lines do not;
        all have ``step``. A step that was run again after a restart counts
        from its last run.
    """
    merged: Dict[Tuple[bool, int], Dict[str, float]] = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for text in path.read_text(encoding='utf-8').splitlines():
            try:
                line = json.loads(text)
            except ValueError:  # a run that was killed while writing
                continue
            if 'step' in line:
                merged['loss' in line, int(line['step'])] = line
    return [merged[key] for key in sorted(merged)]


def series(
    lines: List[Dict[str, float]], key: str
) -> Tuple[List[float], List[float]]:
    """Steps and values of one logged number.

    Args:
        lines (List[dict]): From :func:`read_scalars`.
        key (str): Name of the number.

    Returns:
        Tuple[list, list]: Steps (iterations for training, epochs or
        iterations for validation, as the run counts) and values.
    """
    pairs = [(line['step'], line[key]) for line in lines if key in line]
    return [p[0] for p in pairs], [p[1] for p in pairs]
