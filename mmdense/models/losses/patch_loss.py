"""Patch terms of SelfPatch: a patch against the summary of its neighbours."""

from typing import (
    Any,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from mmdense.registry import MODELS
from mmdense.utils.dist import process_info
from mmdense.utils.errors import UserValueError

from ..utils.chunked_loss import chunked_loss
from ..utils.monitors import entropy_monitors
from .centering import CenteredTeacher
from .contrast import check_queue, enqueue, gather_keys, info_nce


class PatchGroup(NamedTuple):
    """Patches of the crops of one size.

    Attributes:
        tokens (Tensor): Normed patch tokens of the student, ``(S, N, D)``,
            crop by crop.
        crops (int): Number of crops, ``S = crops * B``.
        target (Callable): ``target(start, stop)`` gives the teacher's
            summaries for these sequences, ``(stop - start, N, D)``.
    """

    tokens: Tensor
    crops: int
    target: Callable[[int, int], Tensor]


class _SoftCrossEntropy(torch.autograd.Function):
    """``-sum p log softmax(x)``, keeping one tensor of that size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: Tensor) -> Tensor:
        grad = x.log_softmax(dim=-1)
        total = -torch.dot(p.flatten(), grad.flatten())
        ctx.save_for_backward(grad.exp_().sub_(p))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tuple[Tensor, None]:
        (saved,) = ctx.saved_tensors
        return saved * grad, None


@MODELS.register_module()
class PatchDistillationLoss(CenteredTeacher):
    """Patch term of SelfPatch on DINO.

    ``L = mean over crops of mean_{b, i} H(P_i, Q_i)``: each crop weighs the
    same whatever its number of patches. Student and teacher heads, softmax
    and gradients are computed chunk by chunk, so that the logits of one
    chunk are alive at a time; nothing is computed twice.

    Sources: Yun et al., CVPR 2022, equations 4 and 5; alinlab/SelfPatch
    ``main_selfpatch.py``.

    Args:
        out_channels (int): Number ``K`` of outputs of the patch heads.
            Defaults to 4096.
        chunk_size (int): Patches in a chunk. Defaults to 1024: on a CPU both
            faster and smaller than 2048; a GPU is faster with more.
        **kwargs: Temperatures and centre, see
            :class:`~.centering.CenteredTeacher`.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self, out_channels: int = 4096, chunk_size: int = 1024, **kwargs: Any
    ) -> None:
        super().__init__(out_channels, **kwargs)
        if chunk_size < 1:
            raise ValueError(f'chunk_size={chunk_size}: needs at least 1.')
        self.chunk_size = chunk_size

    def _check_head(self, head: Any) -> None:
        width = getattr(head, 'out_channels', None)
        if not hasattr(head, 'bottleneck') or width != self.out_channels:
            raise UserValueError(
                f'model.patch_loss.out_channels={self.out_channels} needs '
                'model.patch_head=dict(type="mmdense.DINOHead", ...) with '
                f'the same, got {type(head).__name__} with out_channels='
                f'{width}.'
            )
        if any(isinstance(m, _BatchNorm) for m in head.modules()):
            raise UserValueError(
                'PatchDistillationLoss computes the patches in chunks, over '
                'which BatchNorm cannot normalise: set model.patch_head.'
                'use_bn=False.'
            )

    def _teacher(self, head: Any, rows: Tensor) -> Tuple[Tensor, Tensor]:
        """Centred, sharpened logits, and the sum of the bottleneck."""
        z = head.bottleneck(rows)
        weight = head.last_layer.weight
        # temperature and centre ride on the matrix product
        logits = torch.addmm(
            (-self.center / self.teacher_temp).to(z.dtype),
            z / self.teacher_temp.to(z.dtype),
            weight.t().to(z.dtype),
        )
        return logits.float(), z.float().sum(dim=0)

    def forward(
        self,
        groups: Sequence[PatchGroup],
        head: Any,
        teacher_head: Any,
        predictor: Optional[nn.Module] = None,
        keys: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """Patch term and monitors.

        Args:
            groups (Sequence[PatchGroup]): Crops of each size.
            head (nn.Module): Patch head of the student,
                :class:`mmdense.DINOHead`.
            teacher_head (nn.Module): That of the teacher.
            predictor (nn.Module, optional): Not used. Defaults to None.
            keys (Tensor, optional): Not used. Defaults to None.

        Returns:
            Dict[str, Tensor]: Scalars: ``patch_term``; without gradient
            ``patch_entropy`` and ``patch_information`` (of the first chunk,
            see :func:`~mmdense.models.utils.monitors.entropy_monitors`).

        Raises:
            ValueError: If the head does not fit the loss.
        """
        self._check_head(head)
        crops = sum(group.crops for group in groups)
        outputs: Dict[str, Tensor] = {}
        device = groups[0].tokens.device
        summed = torch.zeros(
            teacher_head.last_layer.weight_v.shape[1], device=device
        )
        rows = 0
        total = torch.zeros((), device=device)
        for group in groups:
            count, length, width = group.tokens.shape

            def piece(
                tokens: Tensor,
                start: int,
                stop: int,
                target: Callable[[int, int], Tensor] = group.target,
                width: int = width,
            ) -> Tensor:
                with torch.no_grad():
                    goal = target(start, stop).reshape(-1, width)
                    sharp, z_sum = self._teacher(teacher_head, goal)
                    summed.add_(z_sum)
                    p = sharp.softmax(dim=-1)
                    if not outputs:
                        names = ('patch_entropy', 'patch_information')
                        log_p = sharp.log_softmax(dim=-1)
                        found = entropy_monitors(p, log_p, len(p))
                        outputs.update(zip(names, found))
                    del sharp
                z = head.bottleneck(tokens.reshape(-1, width))
                logits = F.linear(
                    z / self.student_temp, head.last_layer.weight
                )
                return _SoftCrossEntropy.apply(logits.float(), p)

            part = chunked_loss(
                piece,
                max(1, self.chunk_size // length),
                group.tokens,
                [head],
            )
            total = total + part * (group.crops / (crops * count * length))
            rows += count * length
        if self.training:
            # fp16 cannot count so many rows
            with torch.no_grad(), torch.autocast(device.type, enabled=False):
                # the last layer is linear: one output of the sum will do
                weight = teacher_head.last_layer.weight.float()
                self.hold(F.linear(summed, weight), rows)
        outputs['patch_term'] = total
        return outputs


@MODELS.register_module()
class PatchContrastLoss(BaseModule):
    """Patch term of SelfPatch on MoBY.

    Without negatives ``2 - 2 cos(pred(proj(x_i)), proj_k(y_i))``; with them
    InfoNCE of the same pair against a queue of keys ``proj_k(y)``, the
    global vectors of other images. The mean over patches of each view, then
    over views.

    Source: Yun et al., CVPR 2022, section 4.4 and table 5 (results only; the
    form is that of BYOL and of MoBY).

    Args:
        negatives (str): ``'none'`` or ``'queue'``. Defaults to ``'queue'``.
        channels (int): Width of the keys. Defaults to 256.
        queue_size (int): Keys in the queue. Defaults to 4096.
        temperature (float): Of InfoNCE, above 0. Defaults to 0.2.

    Raises:
        ValueError: If a value is out of its range.
    """

    queue: Tensor
    queue_ptr: Tensor

    def __init__(
        self,
        negatives: str = 'queue',
        channels: int = 256,
        queue_size: int = 4096,
        temperature: float = 0.2,
    ) -> None:
        super().__init__()
        if negatives not in ('none', 'queue'):
            raise ValueError(
                f"patch_loss.negatives={negatives!r}: needs 'none' or 'queue'."
            )
        if queue_size < 1 or temperature <= 0:
            raise ValueError(
                f'patch_loss: queue_size={queue_size} and temperature='
                f'{temperature} must be positive.'
            )
        self.negatives = negatives
        self.queue_size = queue_size
        self.temperature = temperature
        self._held: List[Tensor] = []
        if negatives == 'queue':
            queue = F.normalize(torch.randn(channels, queue_size), dim=0)
            self.register_buffer('queue', queue)
            self.register_buffer('queue_ptr', torch.zeros(1, dtype=torch.long))

    def forward(
        self,
        groups: Sequence[PatchGroup],
        head: Any,
        teacher_head: Any,
        predictor: Optional[nn.Module] = None,
        keys: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """Patch term and monitors.

        Args:
            groups (Sequence[PatchGroup]): Crops of each size.
            head (nn.Module): Projector of the student, in the form of
                ``mmpretrain.NonLinearNeck``.
            teacher_head (nn.Module): That of the teacher.
            predictor (nn.Module): Predictor of the student.
            keys (Tensor): Global vectors of the teacher ``(crops * B, D)``,
                the negatives of later steps.

        Returns:
            Dict[str, Tensor]: Scalars: ``patch_term``; without gradient
            ``patch_cos``, the mean cosine of the positives.

        Raises:
            ValueError: If predictor or keys are missing, or the keys do not
                divide the queue.
        """
        if predictor is None or keys is None:
            raise UserValueError(
                'PatchContrastLoss needs model.patch_predictor, as '
                'mmdense.MoBY needs model.method.predictor.'
            )
        crops = sum(group.crops for group in groups)
        if self.negatives == 'queue':
            check_queue(
                self.queue_size,
                len(keys) * process_info()[1],
                'model.patch_loss.queue_size',
            )
        terms: List[Tensor] = []
        cosines: List[Tensor] = []
        for group in groups:
            size = len(group.tokens) // group.crops
            for crop in range(group.crops):
                first, last = crop * size, (crop + 1) * size
                # BatchNorm sees all patches of one view, as it sees images
                rows = group.tokens[first:last].flatten(0, 1)
                query = predictor(head((rows,)))[0]
                with torch.no_grad():
                    goal = group.target(first, last).flatten(0, 1)
                    key = teacher_head((goal,))[0]
                loss, cosine = self._term(query, key)
                terms.append(loss)
                cosines.append(cosine)
        if self.negatives == 'queue' and self.training:
            with torch.no_grad():
                for part in keys.chunk(crops):
                    key = teacher_head((part,))[0].float()
                    self._held.append(F.normalize(key, dim=1))
        return {
            'patch_term': torch.stack(terms).mean(),
            'patch_cos': torch.stack(cosines).mean(),
        }

    def _term(self, query: Tensor, key: Tensor) -> Tuple[Tensor, Tensor]:
        with torch.autocast(query.device.type, enabled=False):
            query = F.normalize(query.float(), dim=1)
            key = F.normalize(key.float(), dim=1)
            cosine = (query * key).sum(dim=1).mean()
            if self.negatives == 'none':
                return 2 - 2 * cosine, cosine.detach()
            loss = info_nce(query, key, self.queue, self.temperature)
            return loss, cosine.detach()

    def set_epoch(self, epoch: int) -> None:
        """Nothing changes with the epoch."""

    @torch.no_grad()
    def after_step(self) -> None:
        """Enqueue the keys of all processes since the last call."""
        for keys in self._held:
            joint = gather_keys(keys)
            enqueue(self.queue, joint, self.queue_ptr)
            self.queue_ptr.add_(len(joint)).remainder_(self.queue_size)
        self._held.clear()

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, '_held': []}
