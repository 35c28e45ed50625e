"""Say in words when features collapse, and which collapse it is."""

import logging
import math
from typing import Any, Dict, Optional, Sequence

import torch
from mmengine.hooks import Hook

from mmdense.registry import HOOKS

SPREADS = ('std_global', 'std_local', 'std_key')
# information -> the entropy of the same distributions
INFORMATION = {
    'teacher_information': 'teacher_entropy',
    'patch_information': 'patch_entropy',
}
ENTROPIES = {entropy: info for info, entropy in INFORMATION.items()}
KNOWN = (*SPREADS, *INFORMATION, *ENTROPIES)

_CENTRE = (
    ' The centre has never moved (center_norm = 0): after_step of the method '
    'is not called. Add mmdense.MomentumUpdateHook to custom_hooks.'
)
_ADVICE = {
    'features': (
        'Features look collapsed: all images get nearly the same vector, so '
        'the loss carries no signal. Lower the learning rate or lengthen the '
        'warm-up, check that the two views differ and that inputs are '
        'normalised, and look for half precision overflow (train without '
        '--amp for a while).'
    ),
    'uniform': (
        'Teacher looks collapsed: it spreads every image evenly over all '
        'outputs. Sharpening is too weak for the centring: lower the teacher '
        'temperature (0.04 is the usual value, warmup_teacher_temp the first '
        'one), lower the learning rate, and check that the teacher follows '
        'the student (momentum below 1).'
    ),
    'one_output': (
        'Teacher looks collapsed: one output takes all images. Centring is '
        'too weak for the sharpening: check that it is on and that '
        'center_momentum is not near 1 (0.9 is the usual value), raise the '
        'teacher temperature, lower the learning rate and keep the last '
        'layer frozen for longer.'
    ),
    'alike': (
        'Teacher looks collapsed: it gives all images nearly the same '
        'distribution over the outputs, neither even nor of one output. '
        'Lower the learning rate or lengthen the warm-up, raise the momentum '
        'of the teacher, and look for half precision overflow (train without '
        '--amp for a while).'
    ),
}


@HOOKS.register_module()
class CollapseMonitorHook(Hook):
    r"""Warn when features or teacher outputs stay collapsed.

    Reads what the method logs and looks at three kinds of value:

    * ``std_global``, ``std_local``: spread of the features, 1 for features
      in all directions and 0 when every input gives the same vector. Low
      below ``threshold``.
    * ``teacher_information``, ``patch_information``: how much the teacher's
      output tells about which image or patch it saw, 0 to 1. Near 0 when
      all get the same distribution. Low below ``information``. The mean of
      the entropy over these looks then says which collapse it is: all
      outputs even (above 0.9), one output takes all (below 0.1), or in
      between.
    * ``teacher_entropy``, ``patch_entropy``: entropy of the outputs as a
      share of that of the even distribution. Where no information is logged
      beside it, an entropy closer than ``margin`` to 1 or to 0 counts as
      one of these two collapses.

    The warning says which it is and what to try. A collapse that begins at
    iteration c and stays is reported at the latest at iteration
    ``max(c, warmup) + patience * interval``: with the defaults within 60
    iterations after the warm-up. Features alone do not show all of them:
    without centring or without sharpening the head collapses and the
    features in front of it may stay spread.

    Source of the two collapses of a centred, sharpened teacher: Caron et
    al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV
    2021, sections 3.1 and 5.3.

    Args:
        keys (Sequence[str], optional): Names of the logged values to watch;
            each has to be logged. Values with other names than the above
            are spreads. Defaults to None: those of the above that are
            logged.
        threshold (float): Value in (0, 1) below which features count as
            collapsed. Defaults to 0.1.
        interval (int): Look every so many iterations. Defaults to 20.
        patience (int): Looks in a row at a low value before a warning.
            Defaults to 3.
        warmup (int): Iterations at the start that are not looked at: a fresh
            network maps all images to nearly the same place. Defaults to
            200.
        information (float): Value in (0, 1) below which the teacher counts
            as collapsed. Defaults to 0.003; healthy runs have 0.02 to 0.3,
            collapsed ones 1e-5 and less.
        margin (float): Distance in (0, 0.5) of an entropy from 0 and 1.
            Defaults to 0.001.
    """

    priority = 'BELOW_NORMAL'

    def __init__(
        self,
        keys: Optional[Sequence[str]] = None,
        threshold: float = 0.1,
        interval: int = 20,
        patience: int = 3,
        warmup: int = 200,
        information: float = 0.003,
        margin: float = 0.001,
    ) -> None:
        self.keys = None if keys is None else tuple(keys)
        self.threshold = threshold
        self.interval = interval
        self.patience = patience
        self.warmup = warmup
        self.information = information
        self.margin = margin
        self._low: Dict[str, int] = {}
        self._entropy: Dict[str, float] = {}
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
        values = {
            key: float(torch.as_tensor(outputs[key]))
            for key in (*KNOWN, 'center_norm', *(self.keys or ()))
            if outputs is not None and key in outputs
        }
        watched = [k for k in KNOWN if k in values]
        if self.keys is not None:
            watched = [k for k in self.keys if k in values]
        missing = sorted(set(self.keys or ()) - set(values))
        if missing or not watched:
            self._report_missing(runner, missing or list(KNOWN))
        for key in watched:
            if not self._is_low(key, values):
                self._low[key] = 0
                continue
            self._low[key] = low = self._low.get(key, 0) + 1
            entropy = values.get(INFORMATION.get(key, key), math.nan)
            before = self._entropy.get(key, 0.0) if low > 1 else 0.0
            self._entropy[key] = before + entropy
            if low == self.patience:
                self._warn(runner, key, values)

    def _is_low(self, key: str, values: Dict[str, float]) -> bool:
        """Whether a value shows a collapse; a NaN does."""
        value = values[key]
        if key in INFORMATION:
            return not value >= self.information
        if key not in ENTROPIES:
            return not value >= self.threshold
        # sharp outputs are none where different images get different ones
        alone = ENTROPIES[key] not in values
        return alone and not self.margin <= value <= 1 - self.margin

    def _kind(self, key: str) -> str:
        """Which collapse the looks at a low value have seen."""
        if key not in INFORMATION and key not in ENTROPIES:
            return 'features'
        entropy = self._entropy[key] / self.patience
        if entropy > 0.9:
            return 'uniform'
        return 'one_output' if entropy < 0.1 else 'alike'

    def _report_missing(self, runner: Any, keys: Sequence[str]) -> None:
        if not self._missing_reported:
            self._missing_reported = True
            runner.logger.warning(
                'CollapseMonitorHook: the model logs none of '
                f'{", ".join(map(repr, keys))}; they are not watched. Name '
                'what it logs in custom_hooks.keys.'
            )

    def _warn(self, runner: Any, key: str, values: Dict[str, float]) -> None:
        shown = [key, *(k for k in KNOWN if k in values and k != key)]
        listed = ', '.join(f'{k} = {values[k]:.3g}' for k in shown)
        kind = self._kind(key)
        centre = kind != 'features' and values.get('center_norm') == 0
        runner.logger.log(
            logging.WARNING,
            f'{_ADVICE[kind]}{_CENTRE if centre else ""} {key} was low at '
            f'{self.patience} looks in a row up to iteration '
            f'{runner.iter + 1}; now {listed} (spreads: 1 is spread, 0 is '
            'collapsed; information: 0 is none; entropies: 1 is even, 0 is '
            'one output).',
        )
