"""Convert training checkpoints of DINO, SelfPatch and MoBY, both ways."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import torch
from mmpretrain.models.necks import NonLinearNeck
from torch import Tensor, nn

from mmdense.models.necks import ClassAttentionPooling, DINOHead
from mmdense.utils.checkpoint import load_checkpoint_file
from mmdense.utils.checkpoint_keys import (
    CheckpointKeyError,
    Coverage,
    TrainingState,
    compare,
    official_file,
    official_state,
    own_state,
    read_training,
)
from mmdense.version import __version__

from .export import expected_shapes

StateDict = Mapping[str, Tensor]
_EXAMPLES = 4
_TITLES = {'dino': 'DINO', 'selfpatch': 'SelfPatch', 'moby': 'MoBY'}


def _need(part: str, state: StateDict, *keys: str) -> None:
    missing = [key for key in keys if key not in state]
    if missing:
        raise CheckpointKeyError(
            f'The {part} lacks {missing}, without which its size cannot be '
            f'told. It has {sorted(state)[:4]}.'
        )


def _last(state: StateDict, pattern: str) -> int:
    """Highest number that a pattern finds in the keys."""
    found = [re.match(pattern, key) for key in state]
    return max((int(m.group(1)) for m in found if m), default=0)


def _pool(part: str, state: StateDict) -> nn.Module:
    _need(part, state, 'cls_token', 'blocks.0.mlp.fc1.weight')
    hidden, width = state['blocks.0.mlp.fc1.weight'].shape
    depth = _last(state, r'blocks\.(\d+)\.') + 1
    return ClassAttentionPooling(width, 1, depth, hidden / width)


def _dino_head(part: str, state: StateDict) -> nn.Module:
    name = 'mlp.weight' if 'mlp.weight' in state else 'mlp.0.weight'
    _need(part, state, name, 'last_layer.weight_v')
    hidden, width = state[name].shape
    use_bn = 'mlp.1.weight' in state
    last = _last(state, r'mlp\.(\d+)\.')
    out, bottleneck = state['last_layer.weight_v'].shape
    return DINOHead(
        width,
        out,
        hidden,
        bottleneck,
        num_layers=last // (3 if use_bn else 2) + 1,
        use_bn=use_bn,
    )


def _projector(part: str, state: StateDict) -> nn.Module:
    last = _last(state, r'fc(\d+)\.')
    _need(part, state, 'fc0.weight', f'fc{last}.weight')
    hidden, width = state['fc0.weight'].shape
    return NonLinearNeck(
        width,
        hidden,
        state[f'fc{last}.weight'].shape[0],
        num_layers=last + 1,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=False,
        norm_cfg=dict(type='BN'),
    )


def _blank(shapes: Mapping[str, Sequence[int]]) -> Dict[str, Tensor]:
    return {
        key: torch.empty(tuple(shape), device='meta')
        for key, shape in shapes.items()
    }


def _part_shapes(
    method: str, name: str, state: StateDict, arch: str
) -> Dict[str, Any]:
    """Keys and shapes of a complete part, read off what there is."""
    if name == 'backbone':
        return dict(expected_shapes(state, arch))
    with torch.device('meta'):
        if name == 'pool':
            module = _pool(name, state)
        elif method == 'moby':
            module = _projector(name, state)
        else:
            module = _dino_head(name, state)
    return {k: tuple(v.shape) for k, v in module.state_dict().items()}


def complete_state(state: TrainingState) -> TrainingState:
    """What a file with these parts holds if nothing was lost.

    Both branches are held against one structure, so that what one of them
    lost is noticed.

    Args:
        state (TrainingState): As read from a file.

    Returns:
        TrainingState: Of the same parts, with tensors on the meta device.

    Raises:
        CheckpointKeyError: If the size of a part cannot be told.
    """
    shapes: Dict[str, Dict[str, Any]] = {}
    for _, name in state.parts:
        if name not in shapes:
            joint = {
                **state.parts.get(('teacher', name), {}),
                **state.parts.get(('student', name), {}),
            }
            shapes[name] = _part_shapes(state.method, name, joint, state.arch)
    buffers = {}
    if state.method == 'moby':
        queues = [v for k, v in state.buffers.items() if 'queue_' not in k]
        if queues:
            size = tuple(queues[0].shape)
            buffers = {
                'loss_module.queue1': size,
                'loss_module.queue2': size,
                'loss_module.queue_ptr': (1,),
            }
    else:
        start = 'method.' if state.method == 'selfpatch' else ''
        for name, key in (
            ('neck', f'{start}loss_module.center'),
            ('patch_head', 'patch_loss.center'),
        ):
            if name in shapes:
                width = shapes[name]['last_layer.weight_v'][0]
                buffers[key] = (1, width)
    return replace(
        state,
        parts={part: _blank(shapes[part[1]]) for part in state.parts},
        buffers=_blank(buffers),
    )


def _shape(value: Any) -> str:
    return 'x'.join(map(str, value.shape)) or 'scalar'


def report(
    state: TrainingState,
    coverage: Coverage,
    known: StateDict,
    absent: Sequence[str],
) -> str:
    """Key report of a conversion.

    Args:
        state (TrainingState): As read.
        coverage (Coverage): In names of the side that is written.
        known (Mapping[str, Tensor]): Entries by these names, for shapes.
        absent (Sequence[str]): Parts that are not in the file at all.

    Returns:
        str: Several lines: parts, counts with names and shapes, notes.
    """
    lines = []
    names = sorted({name for _, name in state.parts})
    for name in names:
        counts = [
            f'{branch} {len(state.parts[branch, name])}'
            for branch in ('student', 'teacher')
            if (branch, name) in state.parts
        ]
        lines.append(f'  {name:<11}{", ".join(counts)} tensors')
    if state.buffers:
        listed = [
            f'{key.rpartition(".")[2]} ({_shape(value)})'
            for key, value in state.buffers.items()
        ]
        lines.append(f'  {"buffers":<11}{", ".join(listed)}')
    groups: List[Any] = [
        ('mapped', coverage.matched, 0),
        ('missing', coverage.missing, _EXAMPLES),
        ('mismatched', coverage.mismatched, _EXAMPLES),
        ('unexpected', coverage.unexpected, _EXAMPLES),
        ('dropped', coverage.dropped, _EXAMPLES),
    ]
    for title, keys, count in groups:
        shown = []
        for key in list(keys)[:count]:
            note = f' ({_shape(known[key])})' if key in known else ''
            if title == 'mismatched':
                note = f' {coverage.mismatched[key]}'
            shown.append(key + note)
        shown += ['...'] if 0 < len(shown) < len(keys) else []
        lines.append(f'{title:<11}{len(keys):>5}  {", ".join(shown)}'.rstrip())
    lines.append(
        f'{"share":<11}{coverage.share:>6.1%} of {coverage.values:,} values'
    )
    if absent:
        lines.append(f'Not in the file: {", ".join(absent)}.')
    if state.left_out:
        lines.append(f'Not converted: {", ".join(state.left_out)}.')
    return '\n'.join(lines + state.notes)


def _absent(state: TrainingState) -> List[str]:
    wanted = {
        'dino': ('neck',),
        'selfpatch': ('pool', 'neck', 'patch_head'),
        'moby': ('neck', 'predictor'),
    }[state.method]
    names = {name for _, name in state.parts}
    absent = [name for name in wanted if name not in names]
    if not state.buffers:
        absent.append('queues' if state.method == 'moby' else 'centres')
    return absent


def convert_pretraining(
    src: str,
    dst: str,
    to: Optional[str] = None,
    method: Optional[str] = None,
    min_match: float = 0.9,
    img_size: int = 224,
    trust: Optional[bool] = None,
) -> Coverage:
    """Convert a training checkpoint of an official code to ours, or back.

    Official forms: DINO and SelfPatch ``{student, teacher, dino_loss, ...}``,
    one network of them, or a backbone; MoBY ``{model, ...}``, ViT or Swin.
    Ours: the state dict of :class:`mmdense.DINO`, :class:`mmdense.SelfPatch`
    or :class:`mmdense.MoBY` in a runner's checkpoint, also a plain one; it is
    given to a run as ``load_from``. The optimiser's state is not converted.

    Args:
        src (str): File to read.
        dst (str): File to write; folders are made.
        to (str, optional): ``'mmdense'`` or ``'official'``. Defaults to
            None: the side that ``src`` is not of.
        method (str, optional): ``'dino'``, ``'selfpatch'`` or ``'moby'``;
            see :func:`mmdense.utils.checkpoint_keys.read_training`.
        min_match (float): Smallest share of the values of the parts that
            must be there, 0 to 1. Defaults to 0.9.
        img_size (int): Image side in pixels for which an official Swin
            stores its masks; the file's own if it notes one. Defaults to
            224.
        trust (bool, optional): Allow files that hold more than data.

    Returns:
        Coverage: What was found, in names of the side that is written.

    Raises:
        CoverageError: If less than ``min_match`` is there; nothing is
            written then.
        CheckpointKeyError: If it is no such checkpoint.
    """
    if os.path.abspath(src) == os.path.abspath(dst):
        raise CheckpointKeyError(f'SRC and DST are the same file: {src}.')
    raw = load_checkpoint_file(src, map_location='cpu', trust=trust)
    side = {'mmdense': 'official', 'official': 'mmdense'}.get(to or '')
    state = read_training(raw, method, side)
    whole = complete_state(state)
    if state.side == 'official':
        found, wanted = own_state(state), own_state(whole)
    else:
        found = official_state(state, img_size)
        wanted = official_state(whole, img_size)
    coverage = compare(
        found,
        {key: tuple(value.shape) for key, value in wanted.items()},
        dropped=list(state.dropped),
    )
    coverage.unexpected += list(state.unexpected)
    epoch = '' if state.epoch is None else f', epoch {state.epoch}'
    print(
        f'{src}: {state.side} checkpoint of {_TITLES[state.method]}, '
        f'{state.arch}{epoch}'
    )
    known = {**wanted, **found, **state.dropped, **state.unexpected}
    print(report(state, coverage, known, _absent(state)))
    coverage.check(min_match)
    kept = {
        key: value.detach().clone().contiguous()
        for key, value in found.items()
        if key in wanted and wanted[key].shape == value.shape
    }
    target = 'mmdense' if state.side == 'official' else 'official'
    if target == 'official':
        file = official_file(kept, state)
    else:
        meta = {
            'mmdense_convert': __version__,
            'method': state.method,
            'source': os.path.basename(src),
            'epoch': state.epoch,
            'img_size': state.img_size,
        }
        meta = {k: v for k, v in meta.items() if v is not None}
        file = {'state_dict': kept, 'meta': meta}
    Path(dst).parent.mkdir(parents=True, exist_ok=True)
    torch.save(file, dst)
    size = os.path.getsize(dst) / 2**20
    rest = len(kept) - len(coverage.matched)
    extra = f' and {rest} tables and counters' if rest else ''
    print(
        f'Wrote {dst}: {target} names, {len(coverage.matched)} tensors'
        f'{extra}, {size:.1f} MiB'
    )
    return coverage
