"""The training steps that ``train_step.py`` compares.

All of them run the same vision transformer of mmdense, from the same
weights, on the same crops, without drop path and without gradient clipping.
"""

import copy
import zlib
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import torch
from mac_count import ARCHS
from plain_selfpatch import PlainSelfPatch
from torch import Tensor, nn

from mmdense.registry import MODELS

VARIANTS = ('dino', 'selfpatch', 'lightly', 'plain')
TITLES = {
    'dino': 'mmdense DINO',
    'selfpatch': 'mmdense SelfPatch',
    'lightly': 'lightly DINO',
    'plain': 'plain SelfPatch',
}
MOMENTUM = 0.996
LAMBDA = 0.1


class Setup(NamedTuple):
    """What is measured.

    Attributes:
        arch (str or Tuple[int, int, int]): Name in ``ARCHS``, or width,
            layers and heads.
        patch (int): Side of a patch in pixels.
        crops (Tuple[Tuple[int, int], ...]): Groups of ``(number, pixels)``,
            global crops first.
        batch (int): Images.
        out (int): Outputs of the class head.
        patch_out (int): Outputs of the patch head.
        hidden (int): Hidden width of the heads.
        bottleneck (int): Bottleneck of the heads.
        border (str): Neighbours beyond the border, ``'mask'`` or ``'wrap'``.
        device (str): Where it runs.
        dtype (str): ``'float32'``, or the type of autocast.
        compile (bool): Through ``torch.compile``.
        threads (int): Threads of a CPU.
    """

    arch: Any = 'tiny'
    patch: int = 16
    crops: Tuple[Tuple[int, int], ...] = ((2, 224), (8, 96))
    batch: int = 4
    out: int = 65536
    patch_out: int = 4096
    hidden: int = 2048
    bottleneck: int = 256
    border: str = 'mask'
    device: str = 'cpu'
    dtype: str = 'float32'
    compile: bool = False
    threads: int = 1

    @property
    def shape(self) -> Tuple[int, int, int]:
        """Width, layers and heads."""
        return ARCHS[self.arch] if isinstance(self.arch, str) else self.arch

    @property
    def num_global(self) -> int:
        """Number of global crops."""
        return self.crops[0][0]


def make_crops(setup: Setup) -> List[Tensor]:
    """Normalised random crops, global ones first."""
    generator = torch.Generator().manual_seed(0)
    sizes = [pixels for number, pixels in setup.crops for _ in range(number)]
    return [
        torch.randn(setup.batch, 3, size, size, generator=generator)
        for size in sizes
    ]


class Variant(NamedTuple):
    """One kind of training step.

    Attributes:
        model (nn.Module): All that has state.
        loss (Callable): Crops to the loss.
        after (Callable): Teacher and centres, after the optimiser.
        rename (Callable): Parameter name to that of ``mmdense``, or to None
            if it is no parameter of the student.
    """

    model: nn.Module
    loss: Callable[[List[Tensor]], Tensor]
    after: Callable[[], None]
    rename: Callable[[str], str]

    def student(self) -> Iterator[Tuple[str, nn.Parameter]]:
        """Trained parameters by their name in ``mmdense``."""
        for name, param in self.model.named_parameters():
            if param.requires_grad:
                yield self.rename(name), param


def _backbone(setup: Setup, selfpatch: bool) -> Dict[str, Any]:
    dims, layers, heads = setup.shape
    return dict(
        type='mmdense.VisionTransformer',
        arch=dict(
            embed_dims=dims,
            num_layers=layers,
            num_heads=heads,
            feedforward_channels=4 * dims,
        ),
        img_size=setup.crops[0][1],
        patch_size=setup.patch,
        with_cls_token=not selfpatch,
        final_norm=not selfpatch,
        out_type='tokens',
        init_std=0.02,
    )


def _head(setup: Setup, outputs: int) -> Dict[str, Any]:
    return dict(
        type='mmdense.DINOHead',
        in_channels=setup.shape[0],
        out_channels=outputs,
        hid_channels=setup.hidden,
        bottleneck_channels=setup.bottleneck,
    )


def _dino_config(setup: Setup, selfpatch: bool) -> Dict[str, Any]:
    return dict(
        type='mmdense.DINO',
        backbone=_backbone(setup, selfpatch),
        neck=_head(setup, setup.out),
        loss=dict(type='mmdense.DINOLoss', out_channels=setup.out),
        teacher=dict(momentum=MOMENTUM),
        center_crops='all' if selfpatch else 'global',
    )


def _selfpatch_config(setup: Setup) -> Dict[str, Any]:
    dims, _, heads = setup.shape
    return dict(
        type='mmdense.SelfPatch',
        method=_dino_config(setup, True),
        aggregation=dict(
            type='mmdense.ClassAttentionPooling',
            embed_dims=dims,
            num_heads=heads,
        ),
        matching=dict(border=setup.border),
        patch_head=_head(setup, setup.patch_out),
        patch_loss=dict(
            type='mmdense.PatchDistillationLoss',
            out_channels=setup.patch_out,
        ),
        loss_weight=LAMBDA,
    )


def _build(config: Dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    return model.train()


def _ours(config: Dict[str, Any], prefix: str) -> Variant:
    model = _build(config)

    def loss(crops: List[Tensor]) -> Tensor:
        losses = model.loss(crops, None)
        return sum(v for k, v in losses.items() if k.startswith('loss'))

    return Variant(
        model,
        loss,
        lambda: model.after_step(0.0),
        lambda name: name[len(prefix) :],
    )


def dino(setup: Setup) -> Variant:
    """DINO of mmdense."""
    return _ours(_dino_config(setup, False), '')


def selfpatch(setup: Setup) -> Variant:
    """SelfPatch of mmdense around DINO."""
    return _ours(_selfpatch_config(setup), 'method.')


def plain_from(model: nn.Module, setup: Setup) -> PlainSelfPatch:
    """Plain SelfPatch with the weights and centres of ``mmdense``'s."""
    method = model.method
    outs = dict(
        out=setup.out,
        patch_out=setup.patch_out,
        hidden=setup.hidden,
        bottleneck=setup.bottleneck,
    )
    plain = PlainSelfPatch(
        copy.deepcopy(method.backbone),
        setup.shape[2],
        outs,
        wrap=setup.border == 'wrap',
        momentum=MOMENTUM,
    )
    parts = ('backbone', 'pool', 'neck', 'patch_head')
    for net, source in (
        (plain.student, method),
        (plain.teacher, method.teacher),
    ):
        for part in parts:
            state = getattr(source, part).state_dict()
            getattr(net, part).load_state_dict(state)
    plain.center.copy_(method.loss_module.center)
    plain.patch_center.copy_(model.patch_loss.center)
    return plain.train()


def plain(setup: Setup) -> Variant:
    """SelfPatch from its formulas."""
    model = plain_from(_build(_selfpatch_config(setup)), setup)

    def loss(crops: List[Tensor]) -> Tensor:
        image, patch = model.loss(crops, setup.num_global)
        return image + LAMBDA * patch

    return Variant(
        model,
        loss,
        model.move_teacher,
        lambda name: name[len('student.') :],
    )


class LightlyDINO(nn.Module):
    """DINO in the way of lightly's own example, which has one pass a view."""

    def __init__(self, backbone: nn.Module, setup: Setup) -> None:
        super().__init__()
        from lightly.loss import DINOLoss
        from lightly.models.modules import DINOProjectionHead
        from lightly.models.utils import deactivate_requires_grad

        widths = (
            setup.shape[0],
            setup.hidden,
            setup.bottleneck,
            setup.out,
        )
        self.student_backbone = backbone
        self.student_head = DINOProjectionHead(*widths, freeze_last_layer=1)
        self.teacher_backbone = copy.deepcopy(backbone)
        self.teacher_head = DINOProjectionHead(*widths)
        deactivate_requires_grad(self.teacher_backbone)
        deactivate_requires_grad(self.teacher_head)
        self.criterion = DINOLoss(output_dim=setup.out)
        self.num_global = setup.num_global

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the student for one view."""
        return self.student_head(self.student_backbone(x)[-1].cls)

    @torch.no_grad()
    def forward_teacher(self, x: Tensor) -> Tensor:
        """Logits of the teacher for one view."""
        return self.teacher_head(self.teacher_backbone(x)[-1].cls)

    def loss(self, views: List[Tensor]) -> Tensor:
        """Loss of all views."""
        main = views[: self.num_global]
        teacher_out = [self.forward_teacher(view) for view in main]
        student_out = [self.forward(view) for view in views]
        return self.criterion(teacher_out, student_out, teacher_temp=0.04)

    def move_teacher(self) -> None:
        """Move the teacher."""
        from lightly.models.utils import update_momentum

        update_momentum(
            self.student_backbone, self.teacher_backbone, m=MOMENTUM
        )
        update_momentum(self.student_head, self.teacher_head, m=MOMENTUM)


def lightly_from(model: nn.Module, setup: Setup) -> LightlyDINO:
    """DINO of lightly with the backbone, weights and centre of mmdense's."""
    peer = LightlyDINO(copy.deepcopy(model.backbone), setup)
    peer.teacher_backbone.load_state_dict(model.teacher.backbone.state_dict())
    for head, source in (
        (peer.student_head, model.neck),
        (peer.teacher_head, model.teacher.neck),
    ):
        state = source.state_dict().items()
        head.load_state_dict(
            {key.replace('mlp.', 'layers.'): value for key, value in state}
        )
    peer.criterion.center.copy_(model.loss_module.center[None])
    return peer.train()


def lightly(setup: Setup) -> Variant:
    """DINO of lightly."""
    model = lightly_from(_build(_dino_config(setup, False)), setup)

    def rename(name: str) -> str:
        part, rest = name.split('.', 1)
        if part == 'student_head':
            return 'neck.' + rest.replace('layers.', 'mlp.')
        return 'backbone.' + rest

    return Variant(model, model.loss, model.move_teacher, rename)


BUILDERS = dict(dino=dino, selfpatch=selfpatch, lightly=lightly, plain=plain)


def fingerprints(variant: Variant) -> Dict[str, Tuple[float, float]]:
    """Length of the gradient of each tensor, and a random projection of it.

    Two numbers a tensor are enough to see whether two implementations agree,
    without moving whole gradients between processes.
    """
    prints = {}
    for name, param in variant.student():
        if param.grad is None:
            continue
        seed = zlib.crc32(name.encode())
        generator = torch.Generator().manual_seed(seed)
        grad = param.grad.float().cpu()
        signs = torch.randn(grad.shape, generator=generator)
        prints[name] = (grad.norm().item(), (grad * signs).sum().item())
    return prints


def disagreement(
    mine: Dict[str, Tuple[float, float]],
    other: Dict[str, Tuple[float, float]],
) -> float:
    """Largest difference of two sets of fingerprints, per unit of length.

    Raises:
        ValueError: If they are not of the same tensors.
    """
    if set(mine) != set(other):
        lone = sorted(set(mine) ^ set(other))
        raise ValueError(f'Gradients in one of two steps only: {lone}.')
    total = sum(length**2 for length, _ in mine.values()) ** 0.5
    return max(
        max(abs(a - b) for a, b in zip(mine[name], other[name]))
        / max(mine[name][0], 1e-4 * total)
        for name in mine
    )
