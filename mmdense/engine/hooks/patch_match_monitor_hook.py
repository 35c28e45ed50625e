"""Log how much the teacher's choice of neighbours still changes."""

from typing import Any, Dict, List, Optional

import torch
from mmengine.hooks import Hook
from torch import Tensor

from mmdense.evaluation.functional.features import neighbor_change
from mmdense.registry import HOOKS
from mmdense.utils.dist import process_info

from .momentum_update_hook import unwrapped

STATE = 'patch_match_monitor'


@HOOKS.register_module()
class PatchMatchMonitorHook(Hook):
    """Log the share of patches whose top-k neighbours have changed.

    The global crops of the first images of
    the first batch are kept. Before training and every ``interval``
    iterations the teacher of :class:`mmdense.SelfPatch` chooses the
    neighbours of their patches, and ``match_change`` is the share in [0, 1]
    of patches that got another set than at the look before. Values that stay
    high say that the targets of the patch term keep moving.

    Images and last choice are stored in checkpoints (entry
    ``'patch_match_monitor'``), so that a resumed run logs what an
    uninterrupted one would. Looking draws no random numbers and changes
    nothing in the model. With several processes the first one looks; its
    teacher is everybody's.

    Args:
        interval (int): Look every so many iterations. Defaults to 50.
        num_images (int): Images to keep; fewer if the batch holds fewer.
            Defaults to 8.

    Raises:
        ValueError: If a value is below 1.
    """

    # before the log line of the same iteration is written
    priority = 'NORMAL'

    def __init__(self, interval: int = 50, num_images: int = 8) -> None:
        for name, value in (
            ('interval', interval),
            ('num_images', num_images),
        ):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}.')
        self.interval = interval
        self.num_images = num_images
        self._probe: List[Tensor] = []
        self._index: List[Tensor] = []
        self._loaded: Optional[Dict[str, Any]] = None
        self._active = process_info()[0] == 0

    def before_train(self, runner: Any) -> None:
        """Take up what a resumed run has stored."""
        model = unwrapped(runner.model)
        self._active = process_info()[0] == 0
        if self._active and not hasattr(model, 'match'):
            self._active = False
            runner.logger.warning(
                f'PatchMatchMonitorHook: {type(model).__name__} has no '
                'neighbour matching; nothing is watched. It is for '
                'mmdense.SelfPatch.'
            )
        # weights alone were loaded where no iteration has been done
        if self._loaded is not None and runner.iter > 0:
            self._probe = [view.cpu() for view in self._loaded['probe']]
            self._index = [index.cpu() for index in self._loaded['index']]
        self._loaded = None

    def before_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Keep the first images that come."""
        if not self._active or self._probe:
            return
        method: Any = unwrapped(runner.model).method
        self._probe = [
            view[: self.num_images].detach().cpu().clone()
            for view in data_batch['inputs'][: method.num_global]
        ]
        self._index = self._look(runner)

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Match again and log what has changed."""
        if not self._active or not self.every_n_train_iters(
            runner, self.interval
        ):
            return
        before, self._index = self._index, self._look(runner)
        shapes = [tuple(index.shape) for index in self._index]
        # a resumed run may match otherwise: another window or top_k
        if not shapes or shapes != [tuple(index.shape) for index in before]:
            return
        patches = [index[..., 0].numel() for index in self._index]
        changed = sum(
            float(neighbor_change(old, new)) * count
            for old, new, count in zip(before, self._index, patches)
        )
        runner.message_hub.update_scalar(
            'train/match_change', changed / sum(patches)
        )

    @torch.no_grad()
    def _look(self, runner: Any) -> List[Tensor]:
        model = unwrapped(runner.model)
        data = model.data_preprocessor(
            {'inputs': self._probe, 'data_samples': None}, False
        )
        return [index.cpu() for index in model.match(data['inputs'])]

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Store images and last choice, as plain tensors."""
        if self._probe:
            checkpoint[STATE] = {'probe': self._probe, 'index': self._index}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Remember what is stored until the run is known to be resumed."""
        self._loaded = checkpoint.get(STATE)
