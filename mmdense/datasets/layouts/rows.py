"""Take the entries of COCO files only if they are of the types they need."""

from typing import Any, Callable, Dict, List, Tuple

# far above any picture, far below what decoders of masks can allocate
MOST_PIXELS = 1e6


def is_number(value: Any, most: float = MOST_PIXELS) -> bool:
    """Whether a value is a number that readers can compute with.

    Args:
        value (Any): From a json file.
        most (float): Largest absolute value. Defaults to a million.

    Returns:
        bool: False for text, null, true and false, NaN and infinity.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -most <= value <= most


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and is_number(value) and value > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_box(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all(is_number(x) for x in value)


def _is_area(value: Any) -> bool:
    return is_number(value, MOST_PIXELS**2) and value >= 0


_Test = Tuple[Callable[[Any], bool], str]
_ID: _Test = (_is_id, 'a whole number or text')
_LENGTH: _Test = (_is_length, 'a whole number of pixels above 0')
_TEXT: _Test = (_is_text, 'text')
# what readers take from every entry
NEEDED: Dict[str, Dict[str, _Test]] = {
    'images': dict(id=_ID, file_name=_TEXT, height=_LENGTH, width=_LENGTH),
    'annotations': dict(
        id=_ID,
        image_id=_ID,
        category_id=_ID,
        bbox=(_is_box, '4 numbers'),
        area=(_is_area, 'a number from 0 on'),
    ),
    'categories': dict(id=_ID, name=_TEXT),
}
# may be absent
_CROWD: _Test = (lambda value: value in (0, 1), '0 or 1')


def broken_entries(rows: List[Any], key: str) -> List[str]:
    """Entries that readers would stumble over.

    Args:
        rows (List[Any]): A list of the file.
        key (str): Its name: 'images', 'annotations' or 'categories'.

    Returns:
        List[str]: Place, id and defect of each such entry.
    """
    problems = []
    for i, row in enumerate(rows):
        problem = _problem(row, NEEDED[key])
        if problem:
            name = f'{key}[{i}]'
            if isinstance(row, dict) and 'id' in row:
                name += f' (id {_short(row["id"])})'
            problems.append(f'{name}: {problem}')
    return problems


def _problem(row: Any, needed: Dict[str, _Test]) -> str:
    """What is wrong with an entry, '' if it is fine."""
    if not isinstance(row, dict):
        return f'{_short(row)} is no entry with names and values'
    for field, (is_fine, what) in needed.items():
        if field not in row:
            return f'no {field!r}'
        if not is_fine(row[field]):
            return f'{field} is {_short(row[field])}, not {what}'
    is_fine, what = _CROWD
    if 'bbox' in needed and not is_fine(row.get('iscrowd', 0)):
        return f'iscrowd is {_short(row["iscrowd"])}, not {what}'
    return ''


def _short(value: Any) -> str:
    # python refuses to write out numbers of thousands of digits
    text = 'a huge number'
    if not isinstance(value, int) or abs(value) < 10**30:
        text = repr(value)
    return text if len(text) <= 60 else f'{text[:60]}...'
