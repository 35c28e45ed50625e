"""Log how many dimensions features use, and the norm of the gradients."""

from typing import Any, Dict, Optional

import torch
from mmengine.hooks import Hook
from torch import Tensor
from torch import distributed as dist

from mmdense.evaluation.functional.features import effective_rank, feature_std
from mmdense.registry import HOOKS
from mmdense.utils.dist import process_info

from .momentum_update_hook import unwrapped


@HOOKS.register_module()
class FeatureMonitorHook(Hook):
    """Log the effective rank of features and the norm of the gradients.

    At every look it takes what the model has put into its dict ``monitored``
    in the forward pass of this iteration, for instance ``global`` and
    ``local``, and logs for each

    * ``rank_<name>``: the effective rank, 1 to the width of the features
      (:func:`mmdense.evaluation.functional.features.effective_rank`);
    * ``std_<name>``: their spread, 1 spread and 0 collapsed, unless the
      model logs a value of that name itself;

    and, where the optimiser wrapper has it (:class:`mmdense.OptimWrapper`),
    ``grad_norm``, the norm of the gradients of the last optimiser step
    before clipping. Values are means over the processes, each of which looks
    at its own features. Log lines show the last look; ``grad_norm`` is
    averaged over the last looks, as mmengine does by its name.

    Between looks nothing is computed and the host does not wait for the
    device.

    Args:
        interval (int): Look every so many iterations. Defaults to 50.
        max_rows (int): Rows of features to look at, evenly spaced ones if
            there are more. The rank is at most their number. Defaults to
            4096.

    Raises:
        ValueError: If a value is below 1.
    """

    # before the log line of the same iteration is written
    priority = 'NORMAL'

    def __init__(self, interval: int = 50, max_rows: int = 4096) -> None:
        for name, value in (('interval', interval), ('max_rows', max_rows)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}.')
        self.interval = interval
        self.max_rows = max_rows
        self._missing_reported = False

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Look at the features of this iteration."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        model = unwrapped(runner.model)
        features: Dict[str, Tensor] = getattr(model, 'monitored', {})
        if not features and not self._missing_reported:
            self._missing_reported = True
            runner.logger.warning(
                f'FeatureMonitorHook: {type(model).__name__} keeps no '
                'features in its attribute monitored; no rank is logged.'
            )
        values: Dict[str, Tensor] = {}
        for name, tensor in sorted(features.items()):
            rows = self._rows(tensor)
            values[f'rank_{name}'] = effective_rank(rows)
            if f'std_{name}' not in (outputs or {}):
                values[f'std_{name}'] = feature_std(rows)
        norm = getattr(runner.optim_wrapper, 'grad_norm', None)
        if norm is not None:
            values['grad_norm'] = torch.as_tensor(norm).detach()
        for name, value in _means(values).items():
            runner.message_hub.update_scalar(f'train/{name}', value)

    def _rows(self, features: Tensor) -> Tensor:
        rows = features.detach().reshape(-1, features.shape[-1])
        # a stride, not a draw: random states are left alone
        return rows[:: -(-len(rows) // self.max_rows)]


def _means(values: Dict[str, Tensor]) -> Dict[str, float]:
    """Means over processes, with one transfer to the host."""
    if not values:
        return {}
    device = next(iter(values.values())).device
    joint = torch.stack(
        [value.to(device, torch.float32) for value in values.values()]
    )
    world_size = process_info()[1]
    if world_size > 1:
        dist.all_reduce(joint)
        joint /= world_size
    return dict(zip(values, joint.tolist()))
