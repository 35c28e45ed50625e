"""Training checkpoints of DINO, SelfPatch and MoBY, official and ours.

:class:`TrainingState` stands between the two: the parts of student and
teacher with names as in this package. :func:`read_training` makes one of a
loaded file of either side; :func:`own_state` and :func:`official_state` give
the flat entries of a side, :func:`official_file` nests them as the official
code saves them.

Sources of the forms: facebookresearch/dino ``main_dino.py``,
alinlab/SelfPatch ``main_selfpatch.py``, SwinTransformer/Transformer-SSL
``models/moby.py`` and ``utils.py``.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .layouts import CheckpointKeyError, StateDict, detect_layout
from .pretraining_names import (
    BUFFERS,
    OFFICIAL,
    OFFICIAL_SHAPES,
    OWN,
    REBUILT,
    Part,
    has_key,
    image_side,
    inner_norms,
    part_to_official,
    part_to_own,
    recognize,
    shift_masks,
)
from .sources import flat_tensors, tensors_of

_HEAD = re.compile(r'(ca_head|c_head|p_head)\.|head\.(mlp|last_layer)\.')


@dataclass
class TrainingState:
    """State of a method in training.

    Attributes:
        method (str): ``'dino'``, ``'selfpatch'`` or ``'moby'``.
        side (str): Where it was read from: ``'official'`` or ``'mmdense'``.
        arch (str): ``'vit'``, ``'swin'``, ``'resnet'`` or ``'other'``.
        parts (Dict[Part, Dict[str, Tensor]]): Entries of the parts
            ``backbone``, ``pool``, ``neck``, ``patch_head`` and
            ``predictor`` of ``student`` and ``teacher``, in our names.
        buffers (Dict[str, Tensor]): Centres or queues, in our names.
        dropped (Dict[str, Tensor]): Entries that the other side rebuilds.
        unexpected (Dict[str, Tensor]): Entries that belong to no part.
        left_out (List[str]): Other things in the file: optimiser, scaler.
        notes (List[str]): What was filled in or guessed, as sentences.
        epoch (int, optional): Number of epochs done.
        img_size (int, optional): Image side that a Swin was built for.
    """

    method: str
    side: str
    arch: str = 'other'
    parts: Dict[Part, StateDict] = field(default_factory=dict)
    buffers: StateDict = field(default_factory=dict)
    dropped: StateDict = field(default_factory=dict)
    unexpected: StateDict = field(default_factory=dict)
    left_out: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)
    epoch: Optional[int] = None
    img_size: Optional[int] = None


def _with_branches(state: StateDict, container: str, method: str) -> StateDict:
    """Official keys in the form of a full checkpoint.

    A dict of one network becomes the teacher, or the online encoder of MoBY;
    keys of a bare backbone get its prefix.
    """
    if method == 'moby':
        if has_key(state, r'^encoder(_k)?\.'):
            return state
        prefix = '' if has_key(state, r'^backbone\.') else 'backbone.'
        return {
            (prefix + key).replace('backbone.', 'encoder.', 1): value
            for key, value in state.items()
        }
    out: StateDict = {}
    for branch in ('student.', 'teacher.'):
        if container == 'student/teacher':
            own = {
                k[len(branch) :]: v
                for k, v in state.items()
                if k.startswith(branch)
            }
        else:
            own = state if branch == 'teacher.' else {}
        bare = not has_key(own, r'^backbone\.')
        for key, value in own.items():
            prefix = 'backbone.' if bare and not _HEAD.match(key) else ''
            out[branch + prefix + key] = value
    return out


def _split(
    state: StateDict, prefixes: Mapping[Part, str]
) -> Tuple[Dict[Part, StateDict], StateDict]:
    """Entries below each prefix, the longest counts; and the rest."""
    order = sorted(prefixes.items(), key=lambda item: -len(item[1]))
    parts: Dict[Part, StateDict] = {}
    rest: StateDict = {}
    for key, value in state.items():
        for part, prefix in order:
            if key.startswith(prefix):
                parts.setdefault(part, {})[key[len(prefix) :]] = value
                break
        else:
            rest[key] = value
    return parts, rest


def _read_parts(out: TrainingState, state: StateDict) -> None:
    names = BUFFERS[out.method]
    official = out.side == 'official'
    for own, theirs in names.items():
        name = theirs if official else own
        if name in state:
            value = state.pop(name)
            out.buffers[own] = (
                value.reshape(1, -1) if name.endswith('center') else value
            )
    prefixes = (OFFICIAL if official else OWN)[out.method]
    parts, rest = _split(state, prefixes)
    for part, entries in parts.items():
        if part[1] == 'backbone':
            arch, layout = detect_layout(entries)
            if out.arch == 'other':
                out.arch = arch
            out.img_size = out.img_size or image_side(entries)
            if not official and layout not in ('mmpretrain', 'unknown'):
                raise CheckpointKeyError(
                    f'The {part[0]} backbone has the names of {layout}, a '
                    'checkpoint of mmdense those of mmpretrain. Export it '
                    'with --layout mmpretrain first.'
                )
            if arch == 'swin' and not official:
                extra = inner_norms(entries)
                out.dropped.update(
                    {prefixes[part] + k: entries[k] for k in extra}
                )
                entries = {k: entries[k] for k in entries if k not in extra}
        if official:
            own_names, extra = part_to_own(out.method, part[1], entries)
            out.dropped.update({prefixes[part] + k: entries[k] for k in extra})
            entries = own_names
        out.parts[part] = entries
    for key, value in rest.items():
        group = out.dropped if REBUILT.search(key) else out.unexpected
        group[key] = value


def _fill(out: TrainingState) -> None:
    """Let a branch that has no such part start from the other's."""
    single = len({branch for branch, _ in out.parts}) == 1
    if single:
        out.notes.append(
            'The file holds one network: student and teacher both start from '
            'it.'
        )
    for branch, other in (('student', 'teacher'), ('teacher', 'student')):
        names = [
            name
            for of, name in list(out.parts)
            if of == other
            and (branch, name) not in out.parts
            and (branch, name) in OWN[out.method]
        ]
        for name in names:
            out.parts[branch, name] = dict(out.parts[other, name])
        if names and not single:
            out.notes.append(
                f'The file has no {branch} {", ".join(names)}: taken from '
                f'the {other}.'
            )


def _epoch(checkpoint: Mapping[str, Any], side: str, method: str) -> Any:
    """Epochs done; MoBY notes the index of the last one."""
    meta = checkpoint.get('meta') if side == 'mmdense' else checkpoint
    epoch = meta.get('epoch') if isinstance(meta, Mapping) else None
    if not isinstance(epoch, int):
        return None
    return epoch + (side == 'official' and method == 'moby')


def read_training(
    checkpoint: Any,
    method: Optional[str] = None,
    side: Optional[str] = None,
) -> TrainingState:
    """Take a training checkpoint of either side apart.

    Also takes a single network or a backbone alone, with or without
    ``module.`` and ``backbone.``; student and teacher both start from it
    then, which the notes say.

    Args:
        checkpoint (dict): What the file holds.
        method (str, optional): ``'dino'``, ``'selfpatch'`` or ``'moby'``.
            Defaults to None: told by the keys. A backbone alone is taken for
            SelfPatch if it is a ViT without class token, for MoBY if it is
            a Swin, and else for DINO.
        side (str, optional): ``'official'`` or ``'mmdense'``. Defaults to
            None: told by the keys.

    Returns:
        TrainingState: Its parts.

    Raises:
        CheckpointKeyError: If it is something else, or there is no such
            form on the other side.
    """
    state, container = flat_tensors(checkpoint)
    side, method, notes = recognize(state, method, side)
    meta = checkpoint.get('meta')
    out = TrainingState(method, side, notes=notes)
    out.epoch = _epoch(checkpoint, out.side, out.method)
    if out.side == 'official':
        state = _with_branches(state, container, out.method)
        extra = tensors_of(checkpoint.get('dino_loss'))
        state.update({f'dino_loss.{k}': v for k, v in extra.items()})
    else:
        if not has_key(state, r'(^|\.)backbone\.'):
            state = {
                OWN[method]['student', 'backbone'] + k: v
                for k, v in state.items()
            }
        elif method == 'selfpatch' and not has_key(state, r'^method\.'):
            state = {f'method.{k}': v for k, v in state.items()}
        if isinstance(meta, Mapping):
            out.img_size = meta.get('img_size')
    used = {container, 'student', 'teacher', 'dino_loss', 'epoch', 'meta'}
    if container:
        out.left_out = sorted(str(k) for k in checkpoint if k not in used)
    _read_parts(out, dict(state))
    if not any(name == 'backbone' for _, name in out.parts):
        raise CheckpointKeyError(
            f'This {out.side} {out.method} checkpoint has no backbone. First '
            f'parts of its keys: {sorted({k.split(".")[0] for k in state})}.'
        )
    _fill(out)
    return out


def own_state(state: TrainingState) -> StateDict:
    """Entries as :class:`mmdense.DINO`, SelfPatch or MoBY names them.

    Args:
        state (TrainingState): See :func:`read_training`.

    Returns:
        Dict[str, Tensor]: Flat entries.
    """
    out = dict(state.buffers)
    for part, prefix in OWN[state.method].items():
        for key, value in state.parts.get(part, {}).items():
            out[prefix + key] = value
    return out


def official_state(state: TrainingState, img_size: int = 224) -> StateDict:
    """Entries as the official code names them, flat.

    Args:
        state (TrainingState): See :func:`read_training`.
        img_size (int): Image side in pixels for the masks of a Swin whose
            file does not say it. Defaults to 224.

    Returns:
        Dict[str, Tensor]: Entries of the branches behind ``student.`` and
        ``teacher.``, of the loss behind ``dino_loss.``; flat for MoBY.
    """
    out: StateDict = {}
    for part, prefix in OFFICIAL[state.method].items():
        entries = part_to_official(
            state.method, part[1], state.arch, state.parts.get(part, {})
        )
        if part[1] == 'backbone' and state.arch == 'swin':
            entries.update(shift_masks(entries, state.img_size or img_size))
        out.update({prefix + key: value for key, value in entries.items()})
    for own, theirs in BUFFERS[state.method].items():
        if own in state.buffers:
            shape = OFFICIAL_SHAPES.get((state.method, theirs))
            value = state.buffers[own]
            out[theirs] = value if shape is None else value.reshape(shape)
    return out


def official_file(flat: StateDict, state: TrainingState) -> Dict[str, Any]:
    """Nest official entries as the official code saves and resumes them.

    Args:
        flat (Dict[str, Tensor]): See :func:`official_state`.
        state (TrainingState): Where they are from.

    Returns:
        dict: ``student`` (behind ``module.``), ``teacher`` (behind it only
        with BatchNorm, as the code wraps it then), ``dino_loss`` and
        ``epoch``; or ``model`` and ``epoch`` for MoBY.
    """
    if state.method == 'moby':
        file: Dict[str, Any] = {'model': dict(flat)}
        if state.epoch is not None:
            file['epoch'] = state.epoch - 1
        return file
    norm = has_key(flat, r'^teacher\..*\.running_mean$')
    file = {'student': {}, 'teacher': {}, 'dino_loss': {}}
    for key, value in flat.items():
        branch, _, name = key.partition('.')
        wrapped = branch == 'student' or (branch == 'teacher' and norm)
        file[branch][f'module.{name}' if wrapped else name] = value
    if state.epoch is not None:
        file['epoch'] = state.epoch
    return file
