"""Say in words when features collapse."""

import logging
from typing import Any, Dict, Optional, Sequence

import torch
from mmengine.hooks import Hook

from mmdense.registry import HOOKS


@HOOKS.register_module()
class CollapseMonitorHook(Hook):
    """Warn when the spread of the features stays too small.

    Reads what the method logs; the values are expected to be 1 for features
    spread over all directions and 0 when every input gives the same vector
    (standard deviation of normalised features times sqrt(d)).

    Args:
        keys (Sequence[str]): Names of the logged values. Defaults to
            ``('std_global', 'std_local')``.
        threshold (float): Value in (0, 1) below which features count as
            collapsed. Defaults to 0.1.
        interval (int): Look every so many iterations. Defaults to 20.
        patience (int): Looks in a row below the threshold before a warning.
            Defaults to 3.
        warmup (int): Iterations at the start that are not looked at: a fresh
            network maps all images to nearly the same place. Defaults to
            200.
    """

    priority = 'BELOW_NORMAL'

    def __init__(
        self,
        keys: Sequence[str] = ('std_global', 'std_local'),
        threshold: float = 0.1,
        interval: int = 20,
        patience: int = 3,
        warmup: int = 200,
    ) -> None:
        self.keys = tuple(keys)
        self.threshold = threshold
        self.interval = interval
        self.patience = patience
        self.warmup = warmup
        self._low: Dict[str, int] = dict.fromkeys(self.keys, 0)
        self._missing_reported = False

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Look at the logged values of this iteration."""
        if runner.iter < self.warmup or not self.every_n_train_iters(
            runner, self.interval
        ):
            return
        for key in self.keys:
            if outputs is None or key not in outputs:
                self._report_missing(runner, key)
                continue
            value = float(torch.as_tensor(outputs[key]))
            # a NaN compares false and must count as low
            if value >= self.threshold:
                self._low[key] = 0
                continue
            self._low[key] += 1
            if self._low[key] == self.patience:
                self._warn(runner, key, value)

    def _report_missing(self, runner: Any, key: str) -> None:
        if not self._missing_reported:
            self._missing_reported = True
            runner.logger.warning(
                f'CollapseMonitorHook: the model logs no {key!r}; nothing is '
                'watched. Name what it logs in custom_hooks.keys.'
            )

    def _warn(self, runner: Any, key: str, value: float) -> None:
        runner.logger.log(
            logging.WARNING,
            f'Features look collapsed: {key} = {value:.3g} (1 is spread, 0 is '
            f'collapsed), below {self.threshold} at {self.patience} looks in '
            f'a row up to iteration {runner.iter + 1}. All images get nearly '
            'the same vector, so the loss carries no signal. Lower the '
            'learning rate or lengthen the warm-up, check that the two views '
            'differ and that inputs are normalised, and look for half '
            'precision overflow (train without --amp for a while).',
        )
