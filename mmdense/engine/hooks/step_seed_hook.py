"""Random state as a function of seed, rank and iteration."""

import random
from typing import Any, Optional, Tuple

import numpy as np
import torch
from mmengine.hooks import Hook

from mmdense.registry import HOOKS
from mmdense.utils.dist import process_info

DATA, MODEL = 0, 1


def seed_step(seed: int, rank: int, iteration: int, stream: int) -> None:
    """Seed Python, numpy and torch for one training iteration.

    Args:
        seed (int): Seed of the run.
        rank (int): Process.
        iteration (int): Iteration that is about to run, from 0.
        stream (int): What is going to draw: :data:`DATA` for loading in
            this process, :data:`MODEL` for the step. Apart, because how much
            loading draws depends on the workers and on when they started.
    """
    sequence = np.random.SeedSequence([seed, rank, iteration, stream])
    words = sequence.generate_state(3, dtype=np.uint32)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Make a resumed run draw what an uninterrupted one would.

    mmengine keeps no random state in its checkpoints. Here none has to be
    kept: before each iteration the generators of every process are seeded
    from the run's seed (which is in the checkpoint), the rank and the
    iteration.

    Data is covered where samples carry their seeds
    (:class:`mmdense.SeededSampler` with :class:`mmdense.UnlabeledImages`),
    and in epoch loops that load in the main process (``num_workers=0``).
    The workers of other data sets start anew when a run is resumed and draw
    other augmentations than they would have.
    """

    # after every other hook of an iteration
    priority = 'LOWEST'

    def _seed(self, runner: Any, iteration: int, stream: int) -> None:
        if runner.seed is not None:
            seed_step(runner.seed, process_info()[0], iteration, stream)

    def before_train(self, runner: Any) -> None:
        """Give the sampler the seed that a resumed run has gone back to."""
        loader = runner.train_dataloader
        samplers: Tuple[Any, ...] = (
            getattr(loader, 'sampler', None),
            getattr(getattr(loader, 'batch_sampler', None), 'sampler', None),
        )
        for sampler in samplers:
            if runner.seed is not None and hasattr(sampler, 'seed'):
                sampler.seed = runner.seed

    def before_train_epoch(self, runner: Any) -> None:
        """Seed the loading of an epoch's first batch."""
        self._seed(runner, runner.iter, DATA)

    def before_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Seed the step."""
        self._seed(runner, runner.iter, MODEL)

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Seed the loading of the next batch."""
        self._seed(runner, runner.iter + 1, DATA)
