"""Cross-entropy between views, from a centred teacher to a student."""

from typing import Any, Dict, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmdense.registry import MODELS

from ..utils.monitors import entropy_monitors
from .centering import CenteredTeacher


class _CrossViewEntropy(torch.autograd.Function):
    """``sum_{t, s != t} <p_t, -log softmax(x_s)>`` with its own gradient.

    Autograd would keep logits, log-probabilities and their gradients; here
    one tensor of that size is kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, targets: Tensor) -> Tensor:
        grad = x.log_softmax(dim=-1)
        joint = targets.sum(dim=0)
        total = x.new_zeros(())
        for view, log_q in enumerate(grad.unbind()):
            terms, target = len(targets), joint
            if view < len(targets):
                terms, target = terms - 1, joint - targets[view]
            total -= torch.dot(target.flatten(), log_q.flatten())
            log_q.exp_().mul_(terms).sub_(target)
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tuple[Tensor, None]:
        (saved,) = ctx.saved_tensors
        return saved * grad, None


@MODELS.register_module()
class DINOLoss(CenteredTeacher):
    """Loss of DINO.

    ``L = mean_{t, s != t} mean_b H(P_t, Q_s)`` over teacher views ``t``
    (global) and student views ``s`` (all), with
    ``P = softmax((teacher - centre) / teacher_temp)`` and
    ``Q = softmax(student / student_temp)``; in float32.

    Sources: Caron et al., ICCV 2021, equations 1 to 4; facebookresearch/dino
    ``main_dino.py``.

    Args:
        out_channels (int): Number ``K`` of outputs.
        student_temp (float): Defaults to 0.1.
        teacher_temp (float): Defaults to 0.04.
        warmup_teacher_temp (float): Temperature in the first epoch. Defaults
            to 0.04.
        warmup_teacher_temp_epochs (int): Defaults to 0.
        center_momentum (float): Defaults to 0.9.

    Raises:
        ValueError: If a value is out of its range.
    """

    def forward(
        self, student: Tensor, teacher: Tensor, batch: int, num_global: int = 2
    ) -> Dict[str, Tensor]:
        """Loss and monitors.

        Args:
            student (Tensor): Logits ``(views * batch, K)``, view by view,
                global views first.
            teacher (Tensor): Logits of the global views, or of all: every
                row enters the centre, the global ones the loss.
            batch (int): Number of images.
            num_global (int): Number of global views. Defaults to 2.

        Returns:
            Dict[str, Tensor]: Scalars: ``loss``; without gradient
            ``teacher_entropy`` and ``teacher_information`` (see
            :func:`~mmdense.models.utils.monitors.entropy_monitors`) and
            ``center_norm``.

        Raises:
            ValueError: If the shapes do not fit.
        """
        width = self.out_channels
        views, rest = divmod(len(student), batch)
        if (
            rest
            or views < 2
            or student.shape[1:] != (width,)
            or teacher.shape[1:] != (width,)
            or len(teacher) < num_global * batch
        ):
            raise ValueError(
                f'DINOLoss: student {tuple(student.shape)} and teacher '
                f'{tuple(teacher.shape)} do not fit {batch} images, '
                f'{num_global} global views and out_channels={width}.'
            )
        with torch.autocast(student.device.type, enabled=False):
            with torch.no_grad():
                teacher = teacher.float()
                self.hold(teacher.sum(dim=0), len(teacher))
                main = teacher[: num_global * batch]
                log_p = ((main - self.center) / self.teacher_temp).log_softmax(
                    dim=-1
                )
                p = log_p.exp()
                entropy, information = entropy_monitors(p, log_p, batch)
            x = student.float() / self.student_temp
            total = _CrossViewEntropy.apply(
                x.view(views, batch, width), p.view(num_global, batch, width)
            )
        terms = num_global * views - min(views, num_global)
        return {
            'loss': total / (terms * batch),
            'teacher_entropy': entropy,
            'teacher_information': information,
            'center_norm': self.center.norm(),
        }
