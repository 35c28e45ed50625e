"""What DINO and MoBY share: a network and a momentum copy of it."""

import re
from typing import (
    Any,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmdense.registry import MODELS
from mmdense.utils.errors import UserError, UserValueError

from ..backbones.tokens import Tokens, as_tokens
from ..utils.momentum_teacher import MomentumTeacher
from ..utils.monitors import feature_spread

# forward passes after which a teacher that stands still is an error
_PATIENCE = 1000
# made to fit by the backbones when they are loaded
_FITTED = re.compile('pos_embed|relative_position|attn_mask')


class CropGroup(NamedTuple):
    """Crops of one size, crop by crop.

    Attributes:
        images (Tensor): ``(crops * B, 3, H, W)``.
        crops (int): Number of crops.
    """

    images: Tensor
    crops: int


class Encoded(NamedTuple):
    """What a network makes of a group of crops.

    Attributes:
        tokens (Tokens): Of the backbone, for ``S = crops * B`` images.
        pooled (Tensor): Global vectors ``(S, D)``.
        crops (int): Number of crops.
    """

    tokens: Tokens
    pooled: Tensor
    crops: int


def _differences(
    there: Mapping[str, Tensor], here: Mapping[str, Tensor]
) -> List[str]:
    """What tells the state of a module in a file from that of the model."""
    found = [
        f'{key}: {tuple(there[key].shape)} in the file, '
        f'{tuple(value.shape)} here'
        for key, value in here.items()
        if key in there and there[key].shape != value.shape
    ]
    found += [f'{key}: not in the file' for key in here if key not in there]
    found += [f'{key}: not here' for key in there if key not in here]
    return [text for text in found if not _FITTED.search(text)]


def refuse_foreign(
    method: str, state_dict: Mapping[str, Any], roots: Tuple[str, ...]
) -> None:
    """Refuse a checkpoint that has nothing in common with a method.

    Args:
        method (str): Name of the method.
        state_dict (Mapping[str, Tensor]): What is loaded.
        roots (Tuple[str, ...]): What the method's keys start with.

    Raises:
        UserError: If there are keys, and none of the method's.
    """
    if not state_dict or any(key.startswith(roots) for key in state_dict):
        return
    raise UserError(
        f'The checkpoint holds nothing of {method}: its keys are like '
        f'{sorted(state_dict)[:2]}, {roots[0]}* and the like are expected. '
        'To start from the backbone of another method, export it '
        '(tools/model_converters/export_backbone.py) and set init_cfg=dict('
        'type="mmdense.Pretrained", checkpoint=...) in the backbone.'
    )


class StudentTeacher(BaseSelfSupervisor):
    """Base of image-level methods with a momentum teacher.

    The network has the parts ``backbone``, ``pool`` (tokens to global
    vector; None takes the class token, or the mean of the patches) and
    ``neck`` (projection). The teacher has copies of them, without drop path.
    A subclass says what the image-level loss is. An objective that wraps a
    method (:class:`mmdense.SelfPatch`) may add parts.

    ``loss`` changes no buffer. What moves during training (teacher, centres,
    queues) moves in :meth:`before_step` and :meth:`after_step`, once per
    optimiser step, which :class:`mmdense.MomentumUpdateHook` calls; so
    accumulated batches act as one.

    Args:
        backbone (dict): ViT with ``out_type='tokens'``, or a backbone whose
            last output is a map.
        neck (dict): Projection.
        loss (dict): Image-level loss.
        pool (dict, optional): Such as
            :class:`mmdense.ClassAttentionPooling`. Defaults to None.
        teacher (dict, optional): Arguments of
            :class:`~mmdense.models.utils.momentum_teacher.MomentumTeacher`.
        num_global (int): Number of crops, the first ones, that are global.
            Defaults to 2.
        data_preprocessor (dict, optional): Defaults to
            ``mmpretrain.SelfSupDataPreprocessor``.
        init_cfg (dict, optional): Initialisation. Defaults to None.

    Raises:
        ValueError: If ``num_global`` is below 1.
    """

    # modules with names of their own in checkpoints, copied for the teacher
    PARTS = ('backbone', 'pool', 'neck')

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        loss: dict,
        pool: Optional[dict] = None,
        teacher: Optional[dict] = None,
        num_global: int = 2,
        data_preprocessor: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        # the stock default has no scope and is not found from here
        data_preprocessor = dict(data_preprocessor or {})
        data_preprocessor.setdefault(
            'type', 'mmpretrain.SelfSupDataPreprocessor'
        )
        super().__init__(
            backbone=backbone,
            neck=neck,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.pool = None if pool is None else MODELS.build(pool)
        if num_global < 1:
            raise UserValueError(f'num_global={num_global}: needs at least 1.')
        self.loss_module = MODELS.build(loss)
        self.num_global = num_global
        self.teacher: Any = MomentumTeacher(**(teacher or {}))
        for name in self.PARTS:
            part = getattr(self, name)
            if part is not None:
                self.teacher.add(name, part)
        self.monitored: Dict[str, Tensor] = {}
        self._waiting = 0
        self._register_load_state_dict_pre_hook(self._check_teacher)

    # teacher ---------------------------------------------------------------

    def add_momentum_part(self, name: str, part: nn.Module) -> None:
        """Add a trained part of which the teacher has a copy.

        Args:
            name (str): Attribute name of the part.
            part (nn.Module): The part.
        """
        self.add_module(name, part)
        self.teacher.add(name, part)

    def student_parts(self) -> Dict[str, nn.Module]:
        """Parts that the teacher has copies of, by name."""
        return {
            name: getattr(self, name)
            for name, _ in self.teacher.named_children()
        }

    def init_weights(self) -> None:
        """Initialise the network, then make the teacher equal to it."""
        first = not self.is_init
        super().init_weights()
        if first:
            self.teacher.copy_from(self.student_parts())

    def _check_teacher(
        self, state_dict: dict, prefix: str, *args: Any
    ) -> None:
        """Load hook: fill in a missing teacher, refuse one that differs."""
        start = prefix + 'teacher.'
        own = self.teacher.state_dict()
        names = [name for name, _ in self.teacher.named_children()]
        roots = tuple(f'{prefix}{name}.' for name in [*names, 'teacher'])
        refuse_foreign(type(self).__name__, state_dict, roots)
        given = {
            key[len(start) :]: value
            for key, value in state_dict.items()
            if key.startswith(start)
        }
        wrong: List[str] = []
        for name in names:
            here = {k: v for k, v in own.items() if k.startswith(name + '.')}
            there = {
                k: v for k, v in given.items() if k.startswith(name + '.')
            }
            if there:
                wrong += _differences(there, here)
                continue
            for key in here:
                if prefix + key in state_dict:
                    state_dict[start + key] = state_dict[prefix + key].clone()
        state_dict.setdefault(start + 'momentum', own['momentum'])
        if wrong:
            raise UserError(
                'The teacher in the checkpoint is of another architecture: '
                f'{"; ".join(wrong[:3])}{" ..." if len(wrong) > 3 else ""}. '
                'Use the config that the checkpoint was trained with, or '
                'export its backbone (tools/model_converters/'
                'export_backbone.py) and start from that with '
                'init_cfg=dict(type="mmdense.Pretrained", ...).'
            )

    def before_step(self, progress: float) -> None:
        """Before the first forward pass of an optimiser step.

        Args:
            progress (float): Share of the training that is done, [0, 1).
        """

    def after_step(self, progress: float) -> None:
        """After an optimiser step.

        Args:
            progress (float): Share of the training that is done, [0, 1).
        """
        self._waiting = 0
        if hasattr(self.loss_module, 'after_step'):
            self.loss_module.after_step()

    def set_epoch(self, epoch: int) -> None:
        """At the start of an epoch, counted from 0."""
        if hasattr(self.loss_module, 'set_epoch'):
            self.loss_module.set_epoch(epoch)

    def count_forward(self) -> None:
        """Notice when nobody calls :meth:`after_step`.

        Raises:
            RuntimeError: If the teacher has not moved for long.
        """
        if not self.training:
            return
        self._waiting += 1
        if self._waiting > _PATIENCE:
            raise RuntimeError(
                f'The teacher has not been updated for {_PATIENCE} training '
                "steps: add dict(type='mmdense.MomentumUpdateHook') to "
                'custom_hooks, or call model.after_step(progress) after '
                'each optimiser step of your own loop.'
            )

    # data flow -------------------------------------------------------------

    def group(self, inputs: Sequence[Tensor]) -> List[CropGroup]:
        """Put neighbouring crops of one size together.

        Args:
            inputs (Sequence[Tensor]): Crops ``(B, 3, H, W)``, global ones
                first.

        Returns:
            List[CropGroup]: In the order of the crops.

        Raises:
            ValueError: If crops are missing or do not fit together.
        """
        shapes = [tuple(crop.shape) for crop in inputs]
        if len(inputs) < self.num_global:
            raise UserValueError(
                f'{type(self).__name__} needs {self.num_global} global crops '
                f'of an image, the pipeline gives {len(inputs)}: add views '
                'to MultiViewCrops.'
            )
        if len({shape[0] for shape in shapes}) > 1:
            raise UserValueError(
                'The crops hold different numbers of images: '
                f'{[shape[0] for shape in shapes]}. Every image needs all '
                'crops.'
            )
        if len(set(shapes[: self.num_global])) > 1:
            raise UserValueError(
                f'The first {self.num_global} crops are the global ones and '
                f'must have one size, got {shapes[: self.num_global]}.'
            )
        groups: List[CropGroup] = []
        first = 0
        for index in range(1, len(inputs) + 1):
            if index == len(inputs) or shapes[index] != shapes[first]:
                images = torch.cat(list(inputs[first:index]))
                groups.append(CropGroup(images, index - first))
                first = index
        return groups

    def encode(self, group: CropGroup, teacher: bool = False) -> Encoded:
        """Run backbone and pool on a group of crops.

        Args:
            group (CropGroup): The crops.
            teacher (bool): Take the teacher's parts. Defaults to False.

        Returns:
            Encoded: Tokens and global vectors.
        """
        parts: Any = self.teacher if teacher else self
        tokens = as_tokens(parts.backbone(group.images)[-1])
        if self.pool is None:
            pooled = tokens.pooled
        else:
            pooled = parts.pool(tokens.patches)
        return Encoded(tokens, pooled, group.crops)

    def loss(
        self, inputs: List[Tensor], data_samples: List[DataSample]
    ) -> Dict[str, Tensor]:
        """Image-level loss of a batch.

        Args:
            inputs (List[Tensor]): Crops ``(B, 3, H, W)``, global ones first.
            data_samples (List[DataSample]): Not used: there are no labels.

        Returns:
            Dict[str, Tensor]: ``loss`` and monitors, all scalars.
        """
        self.count_forward()
        seen = self.teacher_inputs(inputs)
        groups = self.group(inputs)
        with torch.no_grad():
            same = len(seen) == len(inputs)
            teacher = [
                self.encode(group, teacher=True)
                for group in (groups if same else self.group(seen))
            ]
        student = [self.encode(group) for group in groups]
        return self.image_loss(student, teacher)

    def teacher_inputs(self, inputs: List[Tensor]) -> List[Tensor]:
        """Crops that the teacher sees: the global ones."""
        return inputs[: self.num_global]

    def image_loss(
        self, student: List[Encoded], teacher: List[Encoded]
    ) -> Dict[str, Tensor]:
        """Image-level loss.

        Args:
            student (List[Encoded]): All crops.
            teacher (List[Encoded]): Crops that the teacher sees, the global
                ones first; without gradient.

        Returns:
            Dict[str, Tensor]: ``loss`` and monitors, all scalars.
        """
        raise NotImplementedError

    def watch(self, student: List[Encoded]) -> Dict[str, Tensor]:
        """Keep features of the first crop for hooks, and their spread."""
        first = student[0]
        images = len(first.pooled) // first.crops
        features = first.pooled[:images].detach()
        self.monitored['global'] = features
        return {'std_global': feature_spread(features)}
