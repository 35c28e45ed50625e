"""DINO: self-distillation without labels."""

from typing import Any, Dict, List

import torch
from torch import Tensor

from mmdense.registry import MODELS
from mmdense.utils.errors import UserValueError

from .student_teacher import Encoded, StudentTeacher


@MODELS.register_module()
class DINO(StudentTeacher):
    """Self-distillation of global vectors over many crops.

    Student and teacher are one architecture. The teacher sees the global
    crops, the student all; the teacher is the moving average of the student
    and its outputs are centred and sharpened.

    Sources: Caron et al., "Emerging Properties in Self-Supervised Vision
    Transformers", ICCV 2021; facebookresearch/dino ``main_dino.py``.

    Args:
        backbone (dict): ViT with ``out_type='tokens'``, or Swin.
        neck (dict): :class:`mmdense.DINOHead`.
        loss (dict): :class:`mmdense.DINOLoss` with the same
            ``out_channels``.
        center_crops (str): Whose teacher outputs the centre averages:
            ``'global'`` crops, or ``'all'`` as the official SelfPatch code
            does. Defaults to ``'global'``.
        **kwargs: ``pool``, ``teacher``, ``num_global``,
            ``data_preprocessor``, ``init_cfg`` of
            :class:`~.student_teacher.StudentTeacher`.

    Raises:
        ValueError: If ``center_crops`` is unknown, or neck and loss differ
            in ``out_channels``.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        loss: dict,
        center_crops: str = 'global',
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, neck, loss, **kwargs)
        if center_crops not in ('global', 'all'):
            raise UserValueError(
                f"center_crops={center_crops!r}: needs 'global' or 'all'."
            )
        sizes = (self.neck.out_channels, self.loss_module.out_channels)
        if sizes[0] != sizes[1]:
            raise UserValueError(
                f'neck.out_channels={sizes[0]} and loss.out_channels='
                f'{sizes[1]} must be the same.'
            )
        self.center_crops = center_crops

    def teacher_inputs(self, inputs: List[Tensor]) -> List[Tensor]:
        """Crops that the teacher sees."""
        if self.center_crops == 'all':
            return inputs
        return super().teacher_inputs(inputs)

    def image_loss(
        self, student: List[Encoded], teacher: List[Encoded]
    ) -> Dict[str, Tensor]:
        """Loss of DINO.

        Args:
            student (List[Encoded]): All crops.
            teacher (List[Encoded]): At least the global crops, first.

        Returns:
            Dict[str, Tensor]: See :class:`mmdense.DINOLoss`, and
            ``std_global``.
        """
        batch = len(student[0].pooled) // student[0].crops
        with torch.no_grad():
            vectors = torch.cat([part.pooled for part in teacher])
            if self.center_crops == 'global':
                vectors = vectors[: self.num_global * batch]
            goals = self.teacher.neck(vectors)
        logits = self.neck(torch.cat([part.pooled for part in student]))
        losses = self.loss_module(logits, goals, batch, self.num_global)
        losses.update(self.watch(student))
        return losses

    def after_step(self, progress: float) -> None:
        """Move the centre and the teacher.

        Args:
            progress (float): Share of the training that is done, [0, 1).
        """
        super().after_step(progress)
        self.teacher.update(self.student_parts(), progress)
