"""Logged values reach the host together, not one by one."""

from typing import Any, Dict, List, Optional, Tuple

import torch
from mmengine.hooks import LoggerHook
from mmengine.hooks import RuntimeInfoHook as StockRuntimeInfoHook
from mmengine.utils import apply_to
from torch import Tensor

from mmdense.registry import HOOKS


def to_host(rows: List[Tensor]) -> List[float]:
    """Bring values to the host in one transfer.

    Args:
        rows (List[Tensor]): Each of shape ``(n,)``, any n and dtype, at
            least one row, all on one device.

    Returns:
        List[float]: All values in order. Double precision holds every value
        of the narrower types.
    """
    return torch.cat([row.double() for row in rows]).tolist()


@HOOKS.register_module()
class RuntimeInfoHook(StockRuntimeInfoHook):
    """mmengine's hook, without a wait for the device per logged value.

    The stock hook reads every output of ``train_step`` at every iteration
    with ``item()``. This one keeps copies on the device and reads all of
    them at once where somebody looks: at the intervals of the logger, at the
    end of an epoch and of training, and before a checkpoint is saved. The
    histories are then those of the stock hook. Hooks of a later priority
    that read ``train/<output>`` off the message hub in between find the
    values up to the last of these moments.
    """

    def __init__(self) -> None:
        self._intervals: Tuple[int, ...] = ()
        # (name, device, value): the value is None where it is in a row
        self._names: List[Tuple[str, Optional[torch.device], Any]] = []
        self._rows: Dict[torch.device, List[Tensor]] = {}

    def before_train(self, runner: Any) -> None:
        """As stock; look up when the logger reads."""
        super().before_train(runner)
        loggers = [h for h in runner.hooks if isinstance(h, LoggerHook)]
        self._intervals = tuple({hook.interval for hook in loggers})
        self._names, self._rows = [], {}

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Keep the outputs, and write what is kept if it is needed now."""
        self._keep(outputs or {})
        if any(
            self.every_n_inner_iters(batch_idx, n) for n in self._intervals
        ) or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self._write(runner)

    def after_train(self, runner: Any) -> None:
        """As stock; write what is kept."""
        self._write(runner)
        super().after_train(runner)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Write what is kept, also into the checkpoint."""
        if self._names:
            self._write(runner)
            checkpoint['message_hub'] = apply_to(
                runner.message_hub.state_dict(),
                lambda x: hasattr(x, 'cpu'),
                lambda x: x.cpu(),
            )

    def _keep(self, outputs: Dict[str, Any]) -> None:
        groups: Dict[torch.device, List[Tensor]] = {}
        for name, value in outputs.items():
            if isinstance(value, Tensor) and value.numel() == 1:
                flat = value.detach().reshape(())
                groups.setdefault(value.device, []).append(flat)
                self._names.append((name, value.device, None))
            else:
                self._names.append((name, None, value))
        for device, values in groups.items():
            if len({value.dtype for value in values}) > 1:
                values = [value.double() for value in values]
            # a copy: what is logged may be a buffer that changes
            row = torch.stack(values)
            self._rows.setdefault(device, []).append(row)

    def _write(self, runner: Any) -> None:
        names, rows = self._names, self._rows
        self._names, self._rows = [], {}
        values = {device: iter(to_host(kept)) for device, kept in rows.items()}
        for name, device, value in names:
            runner.message_hub.update_scalar(
                f'train/{name}',
                value if device is None else next(values[device]),
            )
