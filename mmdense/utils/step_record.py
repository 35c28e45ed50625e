"""A training step in plain data: the batch, and the random generators.

Everything here holds tensors, numbers, strings and containers of them, so
that a file of it loads with ``weights_only=True``.
"""

import importlib
import random
from typing import Any, Dict, List

import numpy as np
import torch
from mmengine.structures import BaseDataElement

_ELEMENT = '_data_element'
# what batches of the toolboxes are made of; nothing else is imported when a
# file is read
_ELEMENTS = {
    'DataSample': 'mmpretrain.structures',
    'MultiTaskDataSample': 'mmpretrain.structures',
    'SegDataSample': 'mmseg.structures',
    'DetDataSample': 'mmdet.structures',
    'PixelData': 'mmengine.structures',
    'InstanceData': 'mmengine.structures',
    'LabelData': 'mmengine.structures',
    'BaseDataElement': 'mmengine.structures',
}


def _own_storage(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().cpu()
    size = tensor.numel() * tensor.element_size()
    # a view would be saved with everything around it
    if tensor.untyped_storage().nbytes() > size:
        tensor = tensor.clone()
    return tensor


def to_plain(value: Any) -> Any:
    """Copy nested data with plain types alone.

    Args:
        value (Any): Tensors go to the CPU, arrays become tensors, data
            elements dicts; what is unknown becomes its ``repr``.

    Returns:
        Any: For :func:`from_plain`.
    """
    if isinstance(value, torch.Tensor):
        return _own_storage(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(to_plain(item) for item in value)
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    if isinstance(value, BaseDataElement):
        return {
            _ELEMENT: type(value).__name__,
            'metainfo': to_plain(value.metainfo),
            'fields': {k: to_plain(v) for k, v in value.items()},
        }
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return repr(value)


def from_plain(value: Any) -> Any:
    """Undo :func:`to_plain`; arrays stay tensors.

    Args:
        value (Any): Of a file.

    Returns:
        Any: With data elements of the toolboxes.

    Raises:
        ValueError: If a data element is of no known type.
    """
    if isinstance(value, dict) and _ELEMENT in value:
        name = value[_ELEMENT]
        if name not in _ELEMENTS:
            raise ValueError(
                f'The file holds a {name}; known are {sorted(_ELEMENTS)}.'
            )
        cls = getattr(importlib.import_module(_ELEMENTS[name]), name)
        fields = {k: from_plain(v) for k, v in value['fields'].items()}
        return cls(metainfo=value['metainfo'], **fields)
    if isinstance(value, dict):
        return {key: from_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(from_plain(item) for item in value)
    return value


def samples_of(batch: Any) -> List[Dict[str, Any]]:
    """Index and path of each sample, from the data elements of a batch.

    Args:
        batch (Any): As a data loader gives it.

    Returns:
        List[dict]: ``sample_idx`` and ``img_path``, as far as they are
        known, in the order of the batch.
    """
    if isinstance(batch, BaseDataElement):
        keys = ('sample_idx', 'img_path')
        known = {k: batch.metainfo[k] for k in keys if k in batch.metainfo}
        return [to_plain(known)]
    if isinstance(batch, dict):
        batch = list(batch.values())
    if isinstance(batch, (list, tuple)):
        return [sample for part in batch for sample in samples_of(part)]
    return []


def rng_state() -> Dict[str, Any]:
    """State of the generators of Python, numpy, torch and the GPU."""
    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state()
    name, keys, position, has_gauss, cached = numpy_state
    state = {
        'python': [version, list(words), gauss],
        'numpy': [name, keys.tolist(), position, has_gauss, cached],
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: Dict[str, Any]) -> None:
    """Go back to a state of :func:`rng_state`.

    Args:
        state (dict): The GPU's part is left out where there is no GPU.
    """
    version, words, gauss = state['python']
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state['numpy']
    np.random.set_state(
        (name, np.array(keys, np.uint32), position, has_gauss, cached)
    )
    torch.set_rng_state(state['torch'])
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'])
