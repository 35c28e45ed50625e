"""Comparison of computed values with the stored arrays of a case."""

import re
from typing import Any, Dict, Iterator, Mapping, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mmdense.utils.checkpoint_keys import official_state, read_training

Item = Tuple[str, np.ndarray, np.ndarray, float, float]
Arrays = Mapping[str, np.ndarray]


def tensors(arrays: Arrays, prefix: str) -> Dict[str, Tensor]:
    """Arrays below a prefix as tensors.

    Args:
        arrays (Mapping[str, ndarray]): Arrays of a case by name.
        prefix (str): As in ``'sd/'``.

    Returns:
        Dict[str, Tensor]: By the rest of their names.
    """
    return {
        key[len(prefix) :]: torch.from_numpy(np.array(arrays[key]))
        for key in arrays
        if key.startswith(prefix)
    }


def share_of_largest(text: str) -> float:
    """The number in ``'max|diff| <= 1e-3 * max|grad|'``."""
    found = re.search(r'<=\s*([\d.eE+-]+)', text)
    if found is None:
        raise ValueError(f'No tolerance of gradients in {text!r}.')
    return float(found.group(1))


class Comparison:
    """Makes the tuples of a case, with the tolerance that it states.

    Args:
        case (dict): Entry of ``index.json``.
        arrays (Mapping[str, ndarray]): Arrays of the case by name.
    """

    def __init__(self, case: Dict[str, Any], arrays: Arrays) -> None:
        self.arrays = arrays
        self.tolerance = case['tolerance']

    def item(self, name: str, got: Any, kind: str = '') -> Item:
        """One comparison.

        Args:
            name (str): Name of the stored array.
            got (Tensor, ndarray or float): What was computed.
            kind (str): ``''``, ``'loss'``, ``'center'``, ``'grad'`` or
                ``'indices'`` (exact). Defaults to ``''``.

        Returns:
            Tuple: Name, computed value, stored value, rtol, atol.
        """
        if isinstance(got, Tensor):
            got = got.detach().numpy()
        want = np.asarray(self.arrays[name])
        got = np.asarray(got)
        rules = self.tolerance
        rtol, atol = rules.get('rtol', 0.0), rules.get('atol', 0.0)
        if kind == 'indices' or want.dtype.kind in 'iu':
            rtol, atol = 0.0, 0.0
        elif kind == 'loss':
            rtol, atol = rules.get('loss_rtol', rtol), 0.0
        elif kind == 'center' and 'center_atol' in rules:
            rtol, atol = 0.0, rules['center_atol']
        elif kind == 'grad':
            share = share_of_largest(rules['grad'])
            largest = np.abs(want).max() if want.size else 0.0
            rtol, atol = 0.0, share * float(largest)
        return name, got, want, rtol, atol

    def items(
        self, prefix: str, got: Mapping[str, Tensor], kind: str = ''
    ) -> Iterator[Item]:
        """Every stored array below a prefix against what was computed."""
        for name in self.arrays:
            if name.startswith(prefix):
                yield self.item(name, got[name[len(prefix) :]], kind)


def official_names(model: nn.Module, grads: bool = False) -> Dict[str, Tensor]:
    """State of a method, or its gradients, under official names.

    Args:
        model (nn.Module): DINO, SelfPatch or MoBY of this package.
        grads (bool): Gradients instead of values. Defaults to False.

    Returns:
        Dict[str, Tensor]: As of
        :func:`mmdense.utils.checkpoint_keys.official_state`; zeros where
        there is no gradient.
    """
    state = dict(model.state_dict())
    if grads:
        own = dict(model.named_parameters())
        for key, value in state.items():
            grad = own[key].grad if key in own else None
            state[key] = torch.zeros_like(value) if grad is None else grad
    return official_state(read_training({'state_dict': state}))


def below(state: Mapping[str, Tensor], prefix: str) -> Dict[str, Tensor]:
    """Entries below a prefix, without it."""
    return {
        key[len(prefix) :]: value
        for key, value in state.items()
        if key.startswith(prefix)
    }
