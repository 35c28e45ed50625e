"""Move the teacher once per optimiser step."""

from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import IterBasedTrainLoop

from mmdense.registry import HOOKS
from mmdense.utils.errors import UserError

METHODS = ('before_step', 'after_step', 'set_epoch')


def unwrapped(model: Any) -> Any:
    """The model inside DDP and the like."""
    while is_model_wrapper(model):
        model = model.module
    return model


def current_epoch(runner: Any) -> int:
    """Epoch from 0, also where the loop counts iterations alone."""
    if isinstance(runner.train_loop, IterBasedTrainLoop):
        return runner.iter // len(runner.train_dataloader)
    return runner.epoch


@HOOKS.register_module()
class MomentumUpdateHook(Hook):
    """Tell a method with a teacher where training is.

    * ``model.set_epoch(epoch)`` before the first iteration of each epoch,
    * ``model.before_step(progress)`` before the first forward pass of each
      optimiser step,
    * ``model.after_step(progress)`` after each optimiser step, also one that
      loss scaling skips.

    With accumulated gradients, several iterations make one step. ``progress``
    is the index of the step's last iteration over their number, in [0, 1).

    ``tools/train.py`` adds this hook to every method that needs it.

    Raises:
        UserError: If the model has no such methods, or several optimisers.
    """

    # before the hooks that read the model or save it
    priority = 'ABOVE_NORMAL'

    def __init__(self) -> None:
        self._open = False
        self._epoch: Optional[int] = None

    def before_train(self, runner: Any) -> None:
        """Check the model and its optimiser."""
        self._open, self._epoch = False, None
        model = unwrapped(runner.model)
        missing = [name for name in METHODS if not hasattr(model, name)]
        if missing:
            raise UserError(
                f'custom_hooks: mmdense.MomentumUpdateHook needs a model with '
                f'{", ".join(METHODS)}; {type(model).__name__} lacks '
                f'{", ".join(missing)}. Remove the hook, or train mmdense.'
                'DINO, mmdense.MoBY or mmdense.SelfPatch.'
            )
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            raise UserError(
                'custom_hooks: mmdense.MomentumUpdateHook needs one '
                'optimiser, optim_wrapper has several.'
            )
        self._warn_of_open_windows(runner)

    @staticmethod
    def _warn_of_open_windows(runner: Any) -> None:
        count = runner.optim_wrapper._accumulative_counts
        length = len(runner.train_dataloader)
        if length % count:
            runner.logger.warning(
                f'An epoch has {length} iterations, which '
                f'accumulative_counts={count} does not divide: a checkpoint '
                'between two steps loses the gradients gathered so far, and '
                'a run resumed from it is not exactly the one that was '
                'interrupted. Choose a batch size for which it divides, or '
                'save by_epoch=False at multiples of accumulative_counts.'
            )

    def _set_epoch(self, runner: Any) -> None:
        epoch = current_epoch(runner)
        if epoch != self._epoch:
            self._epoch = epoch
            unwrapped(runner.model).set_epoch(epoch)

    def before_train_epoch(self, runner: Any) -> None:
        """Set the epoch."""
        self._set_epoch(runner)

    def before_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Open a step, if none is open."""
        self._set_epoch(runner)
        if self._open:
            return
        count = runner.optim_wrapper._accumulative_counts
        last = runner.iter + count - 1 - runner.iter % count
        last = min(last, runner.max_iters - 1)
        unwrapped(runner.model).before_step(last / runner.max_iters)
        self._open = True

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Close the step, if the optimiser has made it."""
        if runner.optim_wrapper.should_update():
            model = unwrapped(runner.model)
            model.after_step(runner.iter / runner.max_iters)
            self._open = False
