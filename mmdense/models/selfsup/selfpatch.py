"""SelfPatch: a patch-level objective on top of an image-level method."""

from typing import Any, Callable, Dict, List, Optional

import torch
from mmengine.model import BaseModel
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmdense.registry import MODELS
from mmdense.utils.errors import UserValueError

from ..losses.patch_loss import PatchGroup
from ..utils.monitors import feature_spread
from ..utils.neighbor_matching import NeighborMatching
from .student_teacher import refuse_foreign

TARGETS = ('attention', 'mean')
# patches of a step that the monitors look at, at most
_WATCHED = 4096


@MODELS.register_module()
class SelfPatch(BaseSelfSupervisor):
    """Every patch has to predict the summary of its similar neighbours.

    Wraps :class:`mmdense.DINO` or :class:`mmdense.MoBY`: the method keeps
    its loss, on global vectors of the aggregation head instead of a class
    token, and the patch term comes on top:
    ``loss = loss_image + loss_weight * patch_term``. For every patch the
    teacher chooses the ``top_k`` most similar neighbours and summarises them
    with its aggregation head; the student's patch token alone has to match.

    Source: Yun et al., "Patch-level Representation Learning for
    Self-supervised Vision Transformers", CVPR 2022; alinlab/SelfPatch
    ``main_selfpatch.py``. What paper and code disagree on is told in
    ``configs/selfpatch/README.md``.

    Args:
        method (dict): Image-level method without ``pool``. Its backbone
            should give raw tokens: for a ViT ``with_cls_token=False`` and
            ``final_norm=False``.
        aggregation (dict): :class:`mmdense.ClassAttentionPooling`.
        patch_head (dict, optional): :class:`mmdense.DINOHead` or projector,
            fitting ``patch_loss``. Not built if ``loss_weight`` is 0.
        patch_loss (dict, optional): :class:`mmdense.PatchDistillationLoss`
            or :class:`mmdense.PatchContrastLoss`.
        patch_predictor (dict, optional): Predictor for patches, with
            ``PatchContrastLoss``. Defaults to None.
        matching (dict, optional): Arguments of
            :class:`~mmdense.models.utils.neighbor_matching.NeighborMatching`:
            ``window``, ``top_k``, ``border``.
        patch_target (str): Summary of the neighbours: ``'attention'`` or
            ``'mean'`` (ablation). Defaults to ``'attention'``.
        loss_weight (float): Weight of the patch term, not negative; 0 leaves
            the architecture with the aggregation head. Defaults to 0.1.
        data_preprocessor (dict, optional): Defaults to
            ``mmpretrain.SelfSupDataPreprocessor``.
        init_cfg (dict, optional): Initialisation. Defaults to None.

    Raises:
        ValueError: If an option is out of its range or parts do not fit.
    """

    def __init__(
        self,
        method: dict,
        aggregation: dict,
        patch_head: Optional[dict] = None,
        patch_loss: Optional[dict] = None,
        patch_predictor: Optional[dict] = None,
        matching: Optional[dict] = None,
        patch_target: str = 'attention',
        loss_weight: float = 0.1,
        data_preprocessor: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        # the stock default has no scope and is not found from here
        data_preprocessor = dict(data_preprocessor or {})
        data_preprocessor.setdefault(
            'type', 'mmpretrain.SelfSupDataPreprocessor'
        )
        # the backbone belongs to the method, so not through the parent
        BaseModel.__init__(self, MODELS.build(data_preprocessor), init_cfg)
        if patch_target not in TARGETS:
            raise UserValueError(
                f'patch_target={patch_target!r}: needs one of {TARGETS}.'
            )
        if loss_weight < 0:
            raise UserValueError(
                f'loss_weight={loss_weight}: needs at least 0.'
            )
        self.method: Any = MODELS.build({**method, 'pool': aggregation})
        if self.method.backbone.__class__.__name__ == 'VisionTransformer' and (
            getattr(self.method.backbone, 'cls_token', None) is not None
        ):
            raise UserValueError(
                'SelfPatch has its class vector in the aggregation head: set '
                'model.method.backbone.with_cls_token=False (and '
                'final_norm=False).'
            )
        self._register_load_state_dict_pre_hook(self._check_origin)
        self.matching = NeighborMatching(**(matching or {}))
        self.patch_target = patch_target
        self.loss_weight = loss_weight
        self.patch_loss: Any = None
        self.patch_predictor: Optional[nn.Module] = None
        if loss_weight > 0:
            if patch_head is None or patch_loss is None:
                raise UserValueError(
                    'SelfPatch needs patch_head and patch_loss, unless '
                    'loss_weight is 0.'
                )
            self.method.add_momentum_part(
                'patch_head', MODELS.build(patch_head)
            )
            self.patch_loss = MODELS.build(patch_loss)
            if patch_predictor is not None:
                self.patch_predictor = MODELS.build(patch_predictor)

    def _check_origin(self, state_dict: dict, prefix: str, *args: Any) -> None:
        """Load hook: refuse the checkpoint of another kind of model."""
        refuse_foreign('SelfPatch', state_dict, (f'{prefix}method.',))

    # the parts of the method, under the names that mmpretrain expects
    @property
    def backbone(self) -> nn.Module:
        """Backbone of the student."""
        return self.method.backbone

    @property
    def neck(self) -> nn.Module:
        """Projection of the student."""
        return self.method.neck

    @property
    def monitored(self) -> Dict[str, Tensor]:
        """Features of the last step, for hooks."""
        return self.method.monitored

    def init_weights(self) -> None:
        """Initialise the network, then make the teacher equal to it."""
        first = not self.is_init
        super().init_weights()
        if first:
            # weights of a file come after those of the method
            self.method.teacher.copy_from(self.method.student_parts())

    def get_layer_depth(self, param_name: str) -> Any:
        """Depth of a parameter, see the backbone."""
        depth: Any = self.backbone.get_layer_depth
        return depth(param_name, 'method.backbone.')

    def before_step(self, progress: float) -> None:
        """Before the first forward pass of an optimiser step.

        Args:
            progress (float): Share of the training that is done, [0, 1).
        """
        self.method.before_step(progress)

    def after_step(self, progress: float) -> None:
        """After an optimiser step: teacher, centres, queues.

        Args:
            progress (float): Share of the training that is done, [0, 1).
        """
        self.method.after_step(progress)
        if self.patch_loss is not None:
            self.patch_loss.after_step()

    def set_epoch(self, epoch: int) -> None:
        """At the start of an epoch, counted from 0."""
        self.method.set_epoch(epoch)
        if self.patch_loss is not None:
            self.patch_loss.set_epoch(epoch)

    def summaries(
        self, tokens: Tensor, hw: Any
    ) -> Callable[[int, int], Tensor]:
        """Summaries of the neighbours of each patch, when asked for.

        Args:
            tokens (Tensor): Raw tokens of the teacher ``(S, N, D)``.
            hw (Tuple[int, int]): Their grid.

        Returns:
            Callable: ``target(start, stop)`` gives ``(stop - start, N, D)``.
        """
        pool: Any = self.method.teacher.pool
        summarise = (
            pool.aggregate
            if self.patch_target == 'attention'
            else pool.average
        )

        def target(start: int, stop: int) -> Tensor:
            part = tokens[start:stop]
            return summarise(part, *self.matching(part, hw))

        return target

    def loss(
        self, inputs: List[Tensor], data_samples: List[DataSample]
    ) -> Dict[str, Tensor]:
        """Image-level loss and patch term of a batch.

        Args:
            inputs (List[Tensor]): Crops ``(B, 3, H, W)``, global ones first.
            data_samples (List[DataSample]): Not used: there are no labels.

        Returns:
            Dict[str, Tensor]: Scalars ``loss_image`` and ``loss_patch``
            (weighted); without gradient ``patch_term`` (unweighted) and the
            monitors of the losses.
        """
        method = self.method
        if self.patch_loss is None:
            losses = method.loss(inputs, data_samples)
            losses['loss_image'] = losses.pop('loss')
            return losses
        method.count_forward()
        groups = method.group(inputs)
        with torch.no_grad():
            teacher = [method.encode(group, teacher=True) for group in groups]
        student = [method.encode(group) for group in groups]
        losses = method.image_loss(student, teacher)
        losses['loss_image'] = losses.pop('loss')
        patches = [
            PatchGroup(
                method.pool.norm(own.tokens.patches),
                own.crops,
                self.summaries(goal.tokens.patches, goal.tokens.hw),
            )
            for own, goal in zip(student, teacher)
        ]
        found = self.patch_loss(
            patches,
            method.patch_head,
            method.teacher.patch_head,
            self.patch_predictor,
            torch.cat([part.pooled for part in teacher]),
        )
        term = found['patch_term']
        losses['loss_patch'] = self.loss_weight * term
        losses.update({key: value.detach() for key, value in found.items()})
        first = patches[0].tokens.detach()
        first = first[: len(first) // patches[0].crops].flatten(0, 1)
        # a copy of some rows: a view would keep all tokens alive
        local = first[:: 1 + len(first) // _WATCHED].clone()
        method.monitored['local'] = local
        losses['std_local'] = feature_spread(local)
        return losses

    @torch.no_grad()
    def match(self, inputs: List[Tensor]) -> List[Tensor]:
        """Neighbours that the teacher chooses.

        Args:
            inputs (List[Tensor]): Preprocessed crops ``(B, 3, H, W)``.

        Returns:
            List[Tensor]: For the crops of each size, flat patch indices
            ``(crops * B, N, k)``, int64.
        """
        chosen = []
        for group in self.method.group(inputs):
            tokens = self.method.encode(group, teacher=True).tokens
            parts = [
                self.matching(part, tokens.hw).chosen
                for part in tokens.patches.split(8)
            ]
            chosen.append(torch.cat(parts))
        return chosen
