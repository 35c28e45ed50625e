"""Names of heads against the heads that configs build."""

import re
from typing import Any, Dict, List

_HEADS = {'linear': 'fcn', 'upernet': 'uper', 'semantic-fpn': 'fpn'}
# switches in the names of DPT's configs
_DPT = re.compile(
    r'dpt(-relative|-seg)?(?:-(?P<readout>ignore|add))?'
    r'(?:-taps(?P<taps>\d+(?:-\d+)*))?'
)


def plain(text: str) -> str:
    """Lower-case letters and digits of a text.

    Args:
        text (str): Any.

    Returns:
        str: What is left.
    """
    return re.sub('[^a-z0-9]', '', text.lower())


def built(part: Dict[str, Any]) -> str:
    """Plain name of the class that a config builds.

    Args:
        part (dict): With ``type``.

    Returns:
        str: Such as ``'maskrcnn'``.
    """
    return plain(part.get('type', '').rsplit('.', 1)[-1])


def _necks(model: Dict[str, Any]) -> List[str]:
    neck = model.get('neck') or []
    return [built(n) for n in (neck if isinstance(neck, list) else [neck])]


def _dpt_problems(name: str, model: Dict[str, Any]) -> List[str]:
    """Compare ``dpt[-relative|-seg][-{readout}][-taps{blocks}]``."""
    match = _DPT.fullmatch(name)
    if match is None:
        return [f'{name}: its switches are relative, seg, ignore, add, taps']
    head = model.get('decode_head') or {}
    found = built(head)
    problems = []
    wanted = {'-relative': 'dptdepthhead', '-seg': 'dptseghead'}
    if not found.startswith(wanted.get(match[1], 'dpt')):
        problems.append(f'{name} builds {found}')
    if match[1] == '-relative' and head.get('output') != 'relative':
        problems.append(f'{name} gives {head.get("output")}')
    readout = head.get('readout', 'project')
    # heads on maps alone have no class token to read
    maps = set(head.get('levels', ())) == {'map'}
    if not maps and readout != (match['readout'] or 'project'):
        problems.append(f'{name} has readout={readout!r}')
    if match['taps']:
        blocks = [int(block) - 1 for block in match['taps'].split('-')]
        taps = list(model['backbone']['out_indices'])
        if taps != blocks:
            problems.append(f'{name} taps the blocks {taps}')
    return problems


def head_problems(name: str, model: Dict[str, Any]) -> List[str]:
    """Compare a head's name with the heads of a segmentor or detector.

    Args:
        name (str): First word of the name of a config.
        model (dict): Config of the model.

    Returns:
        List[str]: One line per difference.
    """
    if name == 'dpt' or name.startswith('dpt-'):
        return _dpt_problems(name, model)
    word, _, form = name.partition('-pyramid')
    if 'roi_head' in model:
        found = built(model)
        if 'mask_head' in model['roi_head']:
            found = found.replace('rcnn', 'maskrcnn')
        found = found.replace('maskmask', 'mask')
    else:
        found = built(model.get('decode_head') or {})
    problems = []
    if not found.startswith(_HEADS.get(word, plain(word))):
        problems.append(f'{name} builds {found}')
    pyramid = 'feature2pyramid' in _necks(model)
    if word == 'semantic-fpn' and pyramid != ('-pyramid' in name):
        problems.append(f'{name} has the necks {_necks(model)}')
    return problems + ([f'{name}: what is {form}?'] if form else [])
