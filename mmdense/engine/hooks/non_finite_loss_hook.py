"""Save the step whose loss is not finite."""

import os
import os.path as osp
from typing import Any, Dict, Optional

import torch
from mmengine.hooks import Hook
from torch import Tensor

from mmdense.registry import HOOKS
from mmdense.utils.dist import process_info
from mmdense.utils.errors import UserError
from mmdense.utils.step_record import rng_state, samples_of, to_plain
from mmdense.version import __version__

from ..optimizers.optim_wrapper import NonFiniteLossError, OptimWrapper
from .momentum_update_hook import unwrapped


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Keep what is needed to repeat the first step with a bad loss.

    When the loss of a process is NaN or infinite, its weights (those of the
    step's forward pass), optimiser, loss scale, random generators, batch and
    config go to ``non_finite_iter_{i}_rank{r}.pth``, and training ends on all
    processes without a step.
    ``tools/analysis_tools/replay_step.py`` runs the step again.

    ``tools/train.py`` adds this hook where the optimiser wrapper is of
    mmdense.

    Args:
        save_batch (bool): Keep the images, as the loader gave them (uint8).
            Otherwise only indices and paths. Defaults to True.
        out_dir (str, optional): Folder of the file. Defaults to None, the
            work dir.

    Raises:
        UserError: If the optimiser wrapper is not of mmdense.
    """

    priority = 'LOWEST'

    def __init__(
        self, save_batch: bool = True, out_dir: Optional[str] = None
    ) -> None:
        self.save_batch = save_batch
        self.out_dir = out_dir
        self._batch: Any = None
        self._rng: Optional[Dict[str, Any]] = None
        self._losses: Dict[str, Tensor] = {}
        self._handle: Any = None

    def before_train(self, runner: Any) -> None:
        """Listen to the optimiser wrapper and the model."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            raise UserError(
                'custom_hooks: mmdense.NonFiniteLossHook needs '
                'optim_wrapper.type mmdense.OptimWrapper or '
                f'mmdense.AmpOptimWrapper, got {type(wrapper).__name__} of '
                f'{type(wrapper).__module__.split(".")[0]}.'
            )
        wrapper.on_forward = self._note_rng
        wrapper.on_non_finite = lambda loss: self._capture(runner, loss)
        wrapper.share_check = process_info()[1] > 1
        model = unwrapped(runner.model)
        self._handle = model.register_forward_hook(self._note_losses)

    def after_train(self, runner: Any) -> None:
        """Listen no more."""
        runner.optim_wrapper.on_forward = None
        runner.optim_wrapper.on_non_finite = None
        self._handle.remove()

    def before_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Remember the batch."""
        self._batch, self._rng, self._losses = data_batch, None, {}

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Forget the batch."""
        self._batch, self._losses = None, {}

    def _note_rng(self) -> None:
        if self._rng is None:
            self._rng = rng_state()

    def _note_losses(self, module: Any, inputs: Any, outputs: Any) -> None:
        if module.training and isinstance(outputs, dict):
            self._losses = {
                name: value.detach()
                for name, value in outputs.items()
                if isinstance(value, Tensor)
            }

    def record(self, runner: Any, loss: Tensor) -> Dict[str, Any]:
        """The step in plain data.

        Args:
            runner (Runner): During a step.
            loss (Tensor): Its loss, shape ``()``.

        Returns:
            dict: Loads with ``weights_only=True``.
        """
        rank, world_size = process_info()
        wrapper = runner.optim_wrapper
        return {
            'mmdense_version': __version__,
            'iter': runner.iter,
            'epoch': runner.epoch,
            'max_iters': runner.max_iters,
            'accumulative_counts': wrapper._accumulative_counts,
            'seed': runner.seed,
            'rank': rank,
            'world_size': world_size,
            'loss': loss.detach().cpu(),
            'losses': to_plain(self._losses),
            'state_dict': to_plain(unwrapped(runner.model).state_dict()),
            'optimizer': to_plain(wrapper.state_dict()),
            'rng': self._rng,
            'samples': samples_of(self._batch),
            'batch': to_plain(self._batch) if self.save_batch else None,
            'config': runner.cfg.pretty_text,
        }

    def _capture(self, runner: Any, loss: Tensor) -> None:
        rank = process_info()[0]
        folder = self.out_dir or runner.work_dir
        os.makedirs(folder, exist_ok=True)
        name = f'non_finite_iter_{runner.iter}_rank{rank}.pth'
        path = osp.join(folder, name)
        record = self.record(runner, loss)
        torch.save(record, f'{path}.part')
        os.replace(f'{path}.part', path)
        images = [s['img_path'] for s in record['samples'] if 'img_path' in s]
        raise NonFiniteLossError(
            f'The loss is {float(loss)} at iteration {runner.iter} (epoch '
            f'{runner.epoch}, process {rank}). No step was made with it; '
            f'weights, batch and random state are in {path}. See where it '
            f'comes from with\n  python tools/analysis_tools/replay_step.py '
            f'{path}\nUsual causes: a learning rate too high or a warm-up '
            'too short, overflow of half precision (train in bfloat16, or '
            'without --amp), a damaged image'
            + (f' (first of the batch: {images[0]})' if images else '')
            + '. To go on, lower optim_wrapper.optimizer.lr and resume from '
            'the last checkpoint.'
        )
