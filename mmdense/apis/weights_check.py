"""Refuse to test weights that are not those of the model."""

import re
from typing import Any, Dict, List, NamedTuple, Tuple

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from ..utils.errors import UserValueError

# parts of a model that only training uses
_TRAINING_ONLY = re.compile(
    r'^auxiliary_head\.|(^|\.)(ema(_[^.]*)?|to_scene)\.'
)
_SHAPE = re.compile(r'size mismatch for ([^:]+):')
_NAMED = 3


class WeightsFit(NamedTuple):
    """How a checkpoint fits a model.

    Attributes:
        needed (int): Parameters and running statistics that a test uses.
        missing (List[str]): Those of them that the checkpoint has not.
        other_shape (List[str]): Those that it has in another shape.
    """

    needed: int
    missing: List[str]
    other_shape: List[str]


def weights_fit(model: nn.Module, checkpoint: Dict[str, Any]) -> WeightsFit:
    """Load a checkpoint and say what of a model it leaves unset.

    Heads that only training uses and averaged copies of a network do not
    count, nor do buffers other than the statistics of normalisation.

    Args:
        model (nn.Module): Changed: gets the weights that fit.
        checkpoint (dict): State dict, or a dict with one under
            ``'state_dict'``.

    Returns:
        WeightsFit: The result.
    """
    stored = checkpoint.get('state_dict', checkpoint)
    # versions by module, which decide how old keys are read
    versions = getattr(stored, '_metadata', None) or {}
    versions = {re.sub(r'^module\.', '', k): v for k, v in versions.items()}
    state = {re.sub(r'^module\.', '', k): v for k, v in stored.items()}
    names = [name for name, _ in model.named_parameters()]
    names += [
        name
        for name, _ in model.named_buffers()
        if name.endswith(('running_mean', 'running_var'))
    ]
    needed = {name for name in names if not _TRAINING_ONLY.search(name)}
    missing: List[str] = []
    errors: List[str] = []
    _load(model, '', state, versions, missing, errors)
    shapes = [m[1] for m in map(_SHAPE.match, errors) if m]
    return WeightsFit(
        len(needed),
        [name for name in missing if name in needed],
        [name for name in shapes if name in needed],
    )


def _load(
    module: nn.Module,
    prefix: str,
    state: Dict[str, Any],
    versions: Dict[str, Any],
    missing: List[str],
    errors: List[str],
) -> None:
    """As ``load_state_dict``, which stops telling at a wrong shape."""
    own = versions.get(prefix[:-1], {})
    module._load_from_state_dict(state, prefix, own, True, missing, [], errors)
    for name, child in module.named_children():
        _load(child, f'{prefix}{name}.', state, versions, missing, errors)


class WeightsCheckHook(Hook):
    """End a test whose checkpoint is not one of the model.

    mmengine only warns of weights that are missing or of another shape; what
    it measures then is a model that is in part random.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Refuse the checkpoint if weights are missing.

        Raises:
            UserValueError: With counts and names.
        """
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        fit = weights_fit(model, checkpoint)
        parts = [
            f'{len(names)} of {fit.needed} weights {what} ({_some(names)})'
            for what, names in (
                ('are missing', fit.missing),
                ('have another shape', fit.other_shape),
            )
            if names
        ]
        if not parts:
            return
        state: Tuple[str, ...] = tuple(
            checkpoint.get('state_dict', checkpoint)
        )
        raise UserValueError(
            f'{runner._load_from} does not fit the model of '
            f'{runner.cfg.filename}: {" and ".join(parts)}; the file holds '
            f'{_some(state)}. Give the checkpoint that was trained with this '
            'config.'
        )


def _some(names: Any) -> str:
    more = ', ...' if len(names) > _NAMED else ''
    return ', '.join(names[:_NAMED]) + more
