"""Hold the last layer of the heads still at the start."""

from typing import Any

from mmengine.hooks import Hook

from mmdense.registry import HOOKS
from mmdense.utils.errors import UserError

from ..optimizers.optim_wrapper import OptimWrapper
from .momentum_update_hook import current_epoch, unwrapped


@HOOKS.register_module()
class FreezeLastLayerHook(Hook):
    """Drop the gradients of the last layers during the first epochs.

    The parameters neither move nor decay, and the optimiser gathers no
    state of them. Source: ``cancel_gradients_last_layer`` of
    ``facebookresearch/dino``, ``utils.py`` (commit 7c446df).

    Args:
        epochs (int): From the start. Defaults to 1.
        name (str): Part of the names of the parameters. Defaults to
            ``'last_layer'``.

    Raises:
        UserError: If no trained parameter has such a name, or the optimiser
            wrapper is not of mmdense.
    """

    def __init__(self, epochs: int = 1, name: str = 'last_layer') -> None:
        self.epochs = epochs
        self.name = name

    def before_train(self, runner: Any) -> None:
        """Find the parameters."""
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            raise UserError(
                'custom_hooks: mmdense.FreezeLastLayerHook needs '
                'optim_wrapper.type mmdense.OptimWrapper or '
                f'mmdense.AmpOptimWrapper, got '
                f'{type(runner.optim_wrapper).__module__}.'
                f'{type(runner.optim_wrapper).__name__}.'
            )
        model = unwrapped(runner.model)
        self._params = [
            parameter
            for name, parameter in model.named_parameters()
            if self.name in name and parameter.requires_grad
        ]
        if not self._params:
            raise UserError(
                'custom_hooks: mmdense.FreezeLastLayerHook found no trained '
                f'parameter with {self.name!r} in its name in '
                f'{type(model).__name__}. Set its name, or remove it.'
            )

    def before_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Choose whose gradients are dropped."""
        frozen = current_epoch(runner) < self.epochs
        runner.optim_wrapper.drop_gradients(self._params if frozen else None)
