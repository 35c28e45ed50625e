"""What the losses of DINO and SelfPatch share: teacher distributions."""

from typing import Any, Dict, List, Tuple

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch import distributed as dist

from mmdense.utils.dist import process_info


class CenteredTeacher(BaseModule):
    """Centre and temperature of a teacher's outputs.

    The centre is a moving average of the teacher's outputs over all
    processes, ``c = m c + (1 - m) mean``. It changes in :meth:`after_step`
    only, from all outputs since the last call, so that accumulated batches
    act as one.

    Source: Caron et al., ICCV 2021, section 3.1, equation 4.

    Args:
        out_channels (int): Number ``K`` of outputs.
        student_temp (float): Temperature of the student, above 0. Defaults
            to 0.1.
        teacher_temp (float): Temperature of the teacher after the warm-up,
            above 0. Defaults to 0.04.
        warmup_teacher_temp (float): Temperature in the first epoch. Defaults
            to 0.04.
        warmup_teacher_temp_epochs (int): Epochs over which the temperature
            changes linearly. Defaults to 0.
        center_momentum (float): ``m``, in [0, 1]. Defaults to 0.9.

    Raises:
        ValueError: If a value is out of its range.
    """

    center: Tensor
    teacher_temp: Tensor

    def __init__(
        self,
        out_channels: int,
        student_temp: float = 0.1,
        teacher_temp: float = 0.04,
        warmup_teacher_temp: float = 0.04,
        warmup_teacher_temp_epochs: int = 0,
        center_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        for name, value in (
            ('student_temp', student_temp),
            ('teacher_temp', teacher_temp),
            ('warmup_teacher_temp', warmup_teacher_temp),
        ):
            if value <= 0:
                raise ValueError(f'{name}={value}: needs to be above 0.')
        if not 0 <= center_momentum <= 1:
            raise ValueError(
                f'center_momentum={center_momentum}: needs to be in [0, 1].'
            )
        self.out_channels = out_channels
        self.student_temp = student_temp
        self.final_temp = teacher_temp
        self.first_temp = warmup_teacher_temp
        self.warmup_epochs = warmup_teacher_temp_epochs
        self.center_momentum = center_momentum
        self.register_buffer('center', torch.zeros(1, out_channels))
        self.register_buffer('teacher_temp', torch.tensor(0.0))
        self._held: List[Tuple[Tensor, int]] = []
        self.set_epoch(0)

    def teacher_temp_at(self, epoch: int) -> float:
        """Temperature of the teacher in an epoch, counted from 0."""
        if epoch >= self.warmup_epochs:
            return self.final_temp
        share = epoch / max(1, self.warmup_epochs - 1)
        return self.first_temp + (self.final_temp - self.first_temp) * share

    def set_epoch(self, epoch: int) -> None:
        """Set the temperature of an epoch, counted from 0."""
        self.teacher_temp.fill_(self.teacher_temp_at(epoch))

    def hold(self, total: Tensor, rows: int) -> None:
        """Keep a sum of teacher outputs for the next :meth:`after_step`.

        Args:
            total (Tensor): Sum over rows, ``(K,)``.
            rows (int): Their number.
        """
        if self.training:
            self._held.append((total.detach().float(), rows))

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the centre; all processes together."""
        if not self._held:
            return
        total = torch.stack([part for part, _ in self._held]).sum(dim=0)
        rows = sum(count for _, count in self._held)
        self._held.clear()
        if process_info()[1] > 1:
            joint = torch.cat((total, total.new_full((1,), float(rows))))
            dist.all_reduce(joint)
            mean = joint[:-1] / joint[-1]
        else:
            mean = total / rows
        self.center.lerp_(mean[None], 1 - self.center_momentum)

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, '_held': []}
