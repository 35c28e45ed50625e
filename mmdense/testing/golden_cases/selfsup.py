"""Replay of the golden cases of DINO, SelfPatch and MoBY: whole steps."""

import re
from typing import Any, Dict, Iterator, List

import numpy as np
import torch
from mmengine.optim import CosineAnnealingLR, LinearLR
from torch import Tensor, nn

from mmdense.engine.optimizers import OptimWrapper
from mmdense.models.selfsup.student_teacher import CropGroup
from mmdense.models.utils.momentum_teacher import MomentumTeacher
from mmdense.registry import MODELS
from mmdense.utils.checkpoint_keys import own_state, read_training

from .comparison import (
    Arrays,
    Comparison,
    Item,
    below,
    official_names,
    tensors,
)


def _crops(arrays: Arrays) -> List[Tensor]:
    crops = tensors(arrays, 'in/crop')
    return [crops[key] for key in sorted(crops, key=int)]


def _vit(hyper: Dict[str, Any], **options: Any) -> dict:
    width = hyper['embed_dim']
    return dict(
        type='mmdense.VisionTransformer',
        arch=dict(
            embed_dims=width,
            num_layers=hyper['depth'],
            num_heads=hyper['num_heads'],
            feedforward_channels=int(width * hyper.get('mlp_ratio', 4)),
        ),
        img_size=hyper['img_size'],
        patch_size=hyper['patch_size'],
        qkv_bias=hyper.get('qkv_bias', True),
        norm_cfg=dict(type='LN', eps=hyper.get('layernorm_eps', 1e-6)),
        out_type='tokens',
        pos_embed_rule='scale',
        patch_cfg=dict(padding=0),
        drop_path_rate=hyper.get('drop_path', 0),
        **options,
    )


def _head(hyper: Dict[str, Any], width: int, outputs: int) -> dict:
    return dict(
        type='mmdense.DINOHead',
        in_channels=width,
        out_channels=outputs,
        hid_channels=hyper.get('hidden_dim', 2048),
        bottleneck_channels=hyper.get('bottleneck_dim', 256),
        num_layers=hyper.get('nlayers', 3),
        norm_last_layer=hyper.get('norm_last_layer', True),
        use_bn=hyper.get('use_bn', False),
    )


def _temperatures(hyper: Dict[str, Any]) -> dict:
    return dict(
        student_temp=hyper.get('student_temp', 0.1),
        teacher_temp=hyper.get('teacher_temp', 0.04),
        warmup_teacher_temp=hyper.get('warmup_teacher_temp', 0.04),
        warmup_teacher_temp_epochs=hyper.get('warmup_teacher_temp_epochs', 0),
        center_momentum=hyper.get('center_momentum', 0.9),
    )


def _dino(hyper: Dict[str, Any], center_crops: str, **options: Any) -> dict:
    ema = hyper['ema']
    return dict(
        type='mmdense.DINO',
        backbone=_vit(hyper, **options),
        neck=_head(hyper, hyper['embed_dim'], hyper['out_dim']),
        loss=dict(
            type='mmdense.DINOLoss',
            out_channels=hyper['out_dim'],
            **_temperatures(hyper),
        ),
        teacher=dict(momentum=ema, end_momentum=ema),
        center_crops=center_crops,
    )


def _build(config: dict, arrays: Arrays, epoch: int) -> Any:
    """Model with the weights and centres of a step."""
    file = {
        'student': tensors(arrays, 'sd_student/'),
        'teacher': tensors(arrays, 'sd_teacher/'),
        'dino_loss': {
            name: value
            for name, value in tensors(arrays, 'in/').items()
            if name.endswith('center')
        },
    }
    model = MODELS.build(config).train()
    result = model.load_state_dict(
        own_state(read_training(file)), strict=False
    )
    # schedules set these; the official files do not have them
    wrong = [
        key
        for key in [*result.missing_keys, *result.unexpected_keys]
        if not key.endswith(('teacher.momentum', 'teacher_temp'))
    ]
    if wrong:
        raise ValueError(f'Keys that do not fit: {wrong}.')
    model.set_epoch(epoch)
    return model


def _official_order(model: nn.Module) -> List[Tensor]:
    """Gradients in the order in which the official code goes over them."""
    trained = {k: p for k, p in model.named_parameters() if p.requires_grad}
    names = [key for key in model.state_dict() if key in trained]
    places = [key.rpartition('.')[0] for key in names]
    # torch's weight norm has the magnitude first
    names.sort(
        key=lambda key: (
            places.index(key.rpartition('.')[0]),
            key.endswith('weight_v'),
        )
    )
    return [p for p in (trained[key].grad for key in names) if p is not None]


def dino_step(case: Dict[str, Any], arrays: Arrays) -> Iterator[Item]:
    """A step of DINO: logits, loss, centre, gradients, clipping, teacher.

    Args:
        case (dict): Entry of ``index.json``.
        arrays (Mapping[str, ndarray]): Arrays of the case by name.

    Yields:
        Tuple: Name, computed value, stored value, rtol, atol.
    """
    hyper, check = case['hyper'], Comparison(case, arrays)
    model = _build(_dino(hyper, 'global'), arrays, hyper.get('epoch', 0))
    crops = _crops(arrays)
    seen: Dict[str, Tensor] = {}
    handle = model.loss_module.register_forward_pre_hook(
        lambda _, args: seen.update(student=args[0], teacher=args[1])
    )
    loss = model.loss(crops, [])['loss']
    handle.remove()
    yield check.item('out/student', seen['student'])
    yield check.item('out/teacher', seen['teacher'])
    yield check.item('out/total', loss, 'loss')

    params = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(
        # the step of this rate leaves the weights as they are
        torch.optim.SGD(params, lr=0.0),
        clip_grad=dict(type='per_tensor', max_norm=hyper['clip']),
    )
    wrapper.backward(loss)
    before = below(official_names(model, grads=True), 'student.')
    before = {key: value.clone() for key, value in before.items()}
    yield from check.items('grad/', before, 'grad')
    norms = [grad.norm() for grad in _official_order(model)]
    yield check.item('out/param_norms', torch.stack(norms))
    wrapper.step()
    after = below(official_names(model, grads=True), 'student.')
    yield from check.items('gradclip/', after, 'grad')

    model.after_step(0.0)
    yield check.item('out/center', model.loss_module.center, 'center')
    state = below(official_names(model), 'teacher.')
    yield from check.items('ema/', state)
    yield from _schedules(case, check)


def _schedule_arguments(case: Dict[str, Any]) -> List[Dict[str, float]]:
    """Arguments of ``cosine_scheduler`` that the case names, in order."""
    text = ' '.join(f'{k} {v}' for k, v in case['arrays'].items())
    names = ('base', 'final', 'epochs', 'steps', 'warmup_epochs')
    calls = []
    for call in re.findall(r'cosine_scheduler\(([^)]*)\)', text):
        values = [part.split('=') for part in call.split(',')]
        calls.append(
            {
                (value[0].strip() if len(value) > 1 else name): float(
                    value[-1]
                )
                for name, value in zip(names, values)
            }
        )
    return calls


def _learning_rates(
    base: float,
    final: float,
    epochs: float,
    steps: float,
    warmup_epochs: float = 0,
) -> np.ndarray:
    """Rates of mmengine's schedulers, set up as in the configs."""
    total, warm = int(epochs * steps), int(warmup_epochs * steps)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    schedulers: List[Any] = []
    if warm:
        schedulers.append(
            LinearLR(
                optimizer, start_factor=1e-9, by_epoch=False, begin=0, end=warm
            )
        )
    schedulers.append(
        CosineAnnealingLR(
            optimizer, eta_min=final, by_epoch=False, begin=warm, end=total
        )
    )
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return np.array(rates)


def _schedules(case: Dict[str, Any], check: Comparison) -> Iterator[Item]:
    if 'out/sched_lr' not in check.arrays:
        return
    rate, momentum = _schedule_arguments(case)
    name, got, want, rtol, _ = check.item(
        'out/sched_lr', _learning_rates(**rate)
    )
    # the absolute tolerance of features is no tolerance for a rate
    yield name, got, want, rtol, 1e-6 * float(np.abs(want).max())
    teacher = MomentumTeacher(momentum['base'], momentum['final'])
    total = int(momentum['epochs'] * momentum['steps'])
    values = [teacher.momentum_at(step / total) for step in range(total)]
    yield check.item('out/sched_m', np.array(values), 'loss')


def selfpatch_step(case: Dict[str, Any], arrays: Arrays) -> Iterator[Item]:
    """A step of SelfPatch: outputs, neighbours, losses, gradients, teacher.

    Args:
        case (dict): Entry of ``index.json``.
        arrays (Mapping[str, ndarray]): Arrays of the case by name.

    Yields:
        Tuple: Name, computed value, stored value, rtol, atol.
    """
    hyper, check = case['hyper'], Comparison(case, arrays)
    width, patch_outputs = hyper['embed_dim'], hyper['out_dim_selfpatch']
    depth = {
        key.split('.')[2]
        for key in arrays
        if key.startswith('sd_student/ca_head.cls_blocks.')
    }
    config = dict(
        type='mmdense.SelfPatch',
        method=_dino(hyper, 'all', with_cls_token=False, final_norm=False),
        aggregation=dict(
            type='mmdense.ClassAttentionPooling',
            embed_dims=width,
            num_heads=hyper['num_heads'],
            depth=len(depth),
            mlp_ratio=hyper.get('mlp_ratio', 4),
        ),
        matching=dict(
            window=hyper.get('k_size', 3),
            top_k=hyper['k_num'],
            border='wrap',
        ),
        patch_head=_head(hyper, width, patch_outputs),
        patch_loss=dict(
            type='mmdense.PatchDistillationLoss',
            out_channels=patch_outputs,
            **_temperatures(hyper),
        ),
        loss_weight=hyper.get('patch_loss_weight', 0.1),
    )
    model = _build(config, arrays, hyper.get('epoch', 0))
    crops = _crops(arrays)
    for name, part in (('global', crops[:2]), ('local', crops[2:])):
        if part:
            yield from _selfpatch_outputs(model, part, name, check)
    losses = model.loss(crops, [])
    total = losses['loss_image'] + losses['loss_patch']
    yield check.item('out/total', total, 'loss')
    yield check.item('out/c_loss', losses['loss_image'], 'loss')
    yield check.item('out/p_loss', losses['patch_term'], 'loss')
    total.backward()
    grads = below(official_names(model, grads=True), 'student.')
    yield from check.items('grad/', grads, 'grad')
    model.after_step(0.0)
    state = official_names(model)
    for name in ('center', 'patch_center'):
        yield check.item(f'out/{name}', state[f'dino_loss.{name}'], 'center')
    yield from check.items('ema/', below(state, 'teacher.'))


@torch.no_grad()
def _selfpatch_outputs(
    model: Any, crops: List[Tensor], name: str, check: Comparison
) -> Iterator[Item]:
    method = model.method
    group = CropGroup(torch.cat(crops), len(crops))
    for branch, parts in (('student', method), ('teacher', method.teacher)):
        tokens, pooled, _ = method.encode(group, branch == 'teacher')
        if branch == 'teacher':
            summaries = model.summaries(tokens.patches, tokens.hw)
            patches = summaries(0, len(tokens.patches))
            chosen = model.matching(tokens.patches, tokens.hw).chosen
            table = model.matching.table(tokens.hw)[0]
            slots = chosen[..., None] == table[None, :, None]
            yield check.item(
                f'out/teacher_topk_{name}', slots.int().argmax(-1), 'indices'
            )
        else:
            patches = method.pool.norm(tokens.patches)
        logits = parts.patch_head(patches.flatten(0, 1))
        yield check.item(
            f'out/{branch}_cls_{name}', parts.neck(pooled)[:, None]
        )
        yield check.item(
            f'out/{branch}_loc_{name}', logits.unflatten(0, patches.shape[:2])
        )
