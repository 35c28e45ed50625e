"""MoBY: contrast with queues, predictor and momentum encoder."""

from typing import Any, Dict, List, Optional

import torch
from torch import Tensor

from mmdense.registry import MODELS
from mmdense.utils.errors import UserValueError

from .student_teacher import Encoded, StudentTeacher


@MODELS.register_module()
class MoBY(StudentTeacher):
    """Contrast of two views with a queue for each.

    The online side has encoder, projector and predictor, the momentum side
    encoder and projector. The momentum side is updated before it is used,
    and drop path acts on the online side only.

    Sources: Xie et al., "Self-Supervised Learning with Swin Transformers",
    arXiv 2105.04553; SwinTransformer/Transformer-SSL ``models/moby.py``.

    Args:
        backbone (dict): ViT with ``out_type='tokens'``, or Swin.
        neck (dict): Projector, ``mmpretrain.NonLinearNeck`` with
            ``with_avg_pool=False``.
        predictor (dict): Of the same class.
        loss (dict): :class:`mmdense.MoBYLoss`.
        teacher (dict, optional): Defaults to ``dict(momentum=0.99)``.
        **kwargs: ``pool``, ``data_preprocessor``, ``init_cfg`` of
            :class:`~.student_teacher.StudentTeacher`.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        predictor: dict,
        loss: dict,
        teacher: Optional[dict] = None,
        **kwargs: Any,
    ) -> None:
        teacher = {'momentum': 0.99, **(teacher or {})}
        super().__init__(backbone, neck, loss, teacher=teacher, **kwargs)
        self.predictor = MODELS.build(predictor)

    def group(self, inputs: Any) -> List[Any]:
        """Put the two views together.

        Raises:
            ValueError: If there are not two views of one size, or too few
                images for BatchNorm.
        """
        if len(inputs) != 2:
            raise UserValueError(
                f'MoBY contrasts two views, the pipeline gives {len(inputs)}.'
            )
        if self.training and len(inputs[0]) < 2:
            raise UserValueError(
                'MoBY normalises its projections over the batch, which holds '
                'one image. Raise train_dataloader.batch_size to 2 or more '
                'and set drop_last=True.'
            )
        return super().group(inputs)

    def image_loss(
        self, student: List[Encoded], teacher: List[Encoded]
    ) -> Dict[str, Tensor]:
        """Loss of MoBY.

        Args:
            student (List[Encoded]): The two views.
            teacher (List[Encoded]): The two views; without gradient.

        Returns:
            Dict[str, Tensor]: See :class:`mmdense.MoBYLoss`, and
            ``std_global``.
        """
        # BatchNorm sees one view at a time
        views = student[0].pooled.chunk(2)
        preds = [self.predictor(self.neck((view,)))[0] for view in views]
        with torch.no_grad():
            goals = teacher[0].pooled.chunk(2)
            keys = [self.teacher.neck((goal,))[0] for goal in goals]
        losses = self.loss_module(*preds, *keys)
        losses.update(self.watch(student))
        return losses

    def before_step(self, progress: float) -> None:
        """Move the momentum encoder.

        Args:
            progress (float): Share of the training that is done, [0, 1).
        """
        self.teacher.update(self.student_parts(), progress)
