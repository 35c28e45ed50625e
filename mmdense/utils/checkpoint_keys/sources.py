"""Find the backbone inside a checkpoint file of any supported project."""

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
import torch

from .layouts import CheckpointKeyError, StateDict, detect_layout

_WRAPPER = re.compile(r'(^|\.)(?:module|_orig_mod)\.')
# what torch has a type for
_NUMBERS = ('float16', 'float32', 'float64', 'int32', 'int64', 'uint8')
# where VISSL keeps the trained network
_VISSL = ('classy_state_dict', 'base_model', 'model', 'trunk')
_CONTAINERS = ('state_dict', 'model', 'model_state', 'net', 'params')

# A backbone is where the parameters of its first blocks are.
_SIGNATURE = re.compile(
    r'^((?:.*?\.)?)(?:layers\.\d+\.blocks\.\d+\.'
    r'|stages\.\d+\.blocks\.\d+\.attn\.w_msa\.'
    r'|blocks\.\d+\.attn\.qkv\.'
    r'|layers\.\d+\.attn\.(?:attn\.in_proj_|qkv\.)'
    r'|layer1\.0\.conv1\.|res2\.0\.conv1\.)'
)
_NO_BACKBONE = re.compile(
    r'head|neck|pool\.|decoder|predictor|projector|generator\.'
)
# Parts of a method beside a backbone whose keys have no prefix.
_BESIDE = re.compile(
    r'^(ca_head|c_head|p_head|patch_head|neck|pool|predictor|projector'
    r'|teacher|loss_module|patch_loss|projection_head|prototypes'
    r'|backbone\.fpn_\w+)(\.|$)'
)
_TEACHER = re.compile(r'teacher|momentum|target|ema|encoder_k|key_encoder')
BRANCHES = ('student', 'teacher')


@dataclass
class BackboneSource:
    """A backbone as found in a file.

    Attributes:
        kind (str): What wrote the file: ``'dino'``, ``'selfpatch'``,
            ``'moby'`` (official or ours), ``'mocov3'``, ``'semcl'``,
            ``'moco'`` (v1, v2), ``'densecl'``, ``'resim'``, ``'swav'``,
            ``'vissl'`` (any method),
            ``'mmengine'`` (a runner of another method), ``'mmdense'`` (an
            export), ``'dpt'`` or ``'backbone'`` (nothing else in the file,
            or nothing that tells).
        branch (str): ``'student'``, ``'teacher'`` or ``'single'``.
        prefix (str): What the backbone's keys started with.
        arch (str): ``'vit'``, ``'swin'``, ``'resnet'`` or ``'other'``.
        layout (str): ``'mmpretrain'``, ``'mmseg'``, ``'timm'``,
            ``'detectron2'`` or ``'unknown'``.
        state_dict (Dict[str, Tensor]): Its entries, without prefix.
        dropped (List[str]): Tensors of the file outside the backbone.
        meta (dict): ``meta`` of an exported file, else empty.
    """

    kind: str
    branch: str
    prefix: str
    arch: str
    layout: str
    state_dict: StateDict
    dropped: List[str]
    meta: Dict[str, Any]

    def describe(self) -> str:
        """One line for logs."""
        prefix = f', prefix {self.prefix!r}' if self.prefix else ''
        return (
            f'{self.kind} file, branch {self.branch}{prefix}: {self.arch} '
            f'in {self.layout} layout, {len(self.state_dict)} tensors'
        )


def strip_wrappers(key: str) -> str:
    """Remove ``module.`` and ``_orig_mod.`` anywhere in a key."""
    previous = None
    while key != previous:
        previous, key = key, _WRAPPER.sub(r'\1', key)
    return key


def tensors_of(value: Any) -> StateDict:
    """Tensors of a dict, wrappers stripped from their keys.

    Arrays become tensors: files for detectron2 hold numpy.
    """
    if not isinstance(value, Mapping):
        return {}
    found: StateDict = {}
    for key, item in value.items():
        if isinstance(item, np.ndarray) and item.dtype.name in _NUMBERS:
            item = torch.from_numpy(np.array(item))
        if isinstance(item, torch.Tensor):
            found[strip_wrappers(str(key))] = item
    return found


def flat_tensors(checkpoint: Any) -> Tuple[StateDict, str]:
    """Tensors of a file under flat keys, without wrappers.

    Args:
        checkpoint (dict): What the file holds.

    Returns:
        Tuple[Dict[str, Tensor], str]: Entries, those of ``student`` and
        ``teacher`` behind ``'student.'`` and ``'teacher.'``; and the name of
        the container: ``'student/teacher'``, ``'state_dict'``, ``'model'``,
        ``'classy_state_dict'``, ... or ``''``.

    Raises:
        CheckpointKeyError: If it holds no tensors where they usually are.
    """
    if not isinstance(checkpoint, Mapping):
        raise CheckpointKeyError(
            f'The checkpoint holds a {type(checkpoint).__name__}, not a dict '
            'of tensors. Save model.state_dict() instead of the model.'
        )
    pair = {k: tensors_of(checkpoint.get(k)) for k in ('student', 'teacher')}
    if pair['student'] or pair['teacher']:
        flat = {
            f'{branch}.{key}': value
            for branch, state in pair.items()
            for key, value in state.items()
        }
        return flat, 'student/teacher'
    nested: Any = checkpoint
    for name in _VISSL:
        nested = nested.get(name) if isinstance(nested, Mapping) else None
    if nested:
        return tensors_of(nested), _VISSL[0]
    for name in _CONTAINERS:
        state = tensors_of(checkpoint.get(name))
        if state:
            ema = tensors_of(checkpoint.get('ema_state_dict'))
            state.update({f'ema_model.{k}': v for k, v in ema.items()})
            return state, name
    state = tensors_of(checkpoint)
    if not state:
        raise CheckpointKeyError(
            'The checkpoint holds no tensors where they are usually found. '
            f'Its top-level keys: {sorted(map(str, checkpoint))[:20]}.'
        )
    return state, ''


def _below(state: StateDict, prefix: str) -> StateDict:
    return {
        k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)
    }


def _kind(state: StateDict, container: str, checkpoint: Any) -> str:
    def has(text: str) -> bool:
        return any(text in key for key in state)

    if has('ca_head.') or has('method.backbone.'):
        return 'selfpatch'
    if container == _VISSL[0]:
        return 'vissl'
    if container == 'student/teacher' or has('.last_layer.'):
        return 'dino'
    if has('queue1') and (has('encoder_k.') or has('loss_module.')):
        return 'moby'
    if has('base_encoder.'):
        return 'mocov3' if container == 'state_dict' else 'semcl'
    if has('fpn_lateral'):
        return 'resim'
    if has('encoder_k.') and has('queue'):
        return 'densecl' if has('queue2') else 'moco'
    if has('prototypes.'):
        return 'swav'
    if has('pretrained.model.'):
        return 'dpt'
    meta = checkpoint.get('meta')
    if isinstance(meta, Mapping) and 'mmdense_export' in meta:
        return 'mmdense'
    if container == 'state_dict' and has('backbone.'):
        return 'mmengine'
    return 'backbone'


def _preference(prefix: str) -> Tuple[bool, bool, int]:
    """Sort key of the prefixes of one branch, best first."""
    return (
        not prefix.endswith('backbone.'),
        'encoder' not in prefix,
        len(prefix),
    )


def _found_branches(state: StateDict) -> Dict[str, str]:
    """Prefix of each branch that the file has, bare keys as ``single``."""
    matches = (_SIGNATURE.match(key) for key in state)
    prefixes = {match.group(1) for match in matches if match}
    if '' in prefixes:
        return {'single': ''}
    groups: Dict[str, List[str]] = {name: [] for name in BRANCHES}
    for prefix in prefixes:
        # a momentum copy may live in mmpretrain's target_generator
        if not _NO_BACKBONE.search(prefix.replace('target_generator', '')):
            teacher = _TEACHER.search(prefix)
            groups['teacher' if teacher else 'student'].append(prefix)
    found = {
        name: min(group, key=_preference)
        for name, group in groups.items()
        if group
    }
    if not found and _below(state, 'backbone.'):
        found['student'] = 'backbone.'
    return found or {'single': ''}


def _choose(
    found: Dict[str, str], branch: Optional[str], prefer_teacher: bool
) -> Tuple[str, str]:
    if branch is not None and branch not in BRANCHES:
        raise CheckpointKeyError(
            f"branch must be 'student', 'teacher' or None, got {branch!r}."
        )
    if 'single' in found:
        return 'single', found['single']
    if branch is not None:
        if branch not in found:
            raise CheckpointKeyError(
                f'This file has no {branch} branch, only: '
                f'{", ".join(sorted(found))}. Leave branch out.'
            )
        return branch, found[branch]
    order = BRANCHES[::-1] if prefer_teacher else BRANCHES
    chosen = next(name for name in order if name in found)
    return chosen, found[chosen]


def _bare(state: StateDict) -> StateDict:
    """Backbone whose keys have no prefix, without what is beside it."""
    return {k: v for k, v in state.items() if not _BESIDE.match(k)}


def _explicit_prefix(state: StateDict, prefix: str) -> str:
    prefix = strip_wrappers(prefix.rstrip('.') + '.')
    if not _below(state, prefix):
        known = sorted({key.split('.')[0] for key in state})
        raise CheckpointKeyError(
            f'No key of the checkpoint starts with {prefix!r}. First parts '
            f'of its keys (wrappers stripped): {known[:20]}.'
        )
    return prefix


def extract_backbone(
    checkpoint: Any,
    branch: Optional[str] = None,
    prefix: Optional[str] = None,
) -> BackboneSource:
    """Find the backbone in a loaded checkpoint.

    Knows the files of DINO, SelfPatch, MoCo v1 to v3, SemCL, MoBY, DenseCL,
    ReSim (also as converted for detectron2), DetCo, SwAV, VISSL, DeiT, timm,
    official Swin, torchvision, DPT, of mmengine runners (also momentum
    branches, ``EMAHook`` and the methods of this package) and of this
    package's export.

    Args:
        checkpoint (dict): What the file holds.
        branch (str, optional): ``'student'`` or ``'teacher'``. Defaults to
            None: the teacher of DINO and SelfPatch, the trained encoder of
            the others (``encoder_q`` of MoCo, whose ``encoder_k`` is the
            teacher) and of SelfPatch on MoBY. Ignored for files of a single
            backbone.
        prefix (str, optional): Take the keys below this prefix instead of
            looking for the backbone.

    Returns:
        BackboneSource: The backbone and what is known about it.

    Raises:
        CheckpointKeyError: If there is no such branch, prefix or backbone.
    """
    state, container = flat_tensors(checkpoint)
    kind = _kind(state, container, checkpoint)
    if prefix:
        chosen, start = branch or 'single', _explicit_prefix(state, prefix)
    else:
        # DINO and SelfPatch release the teacher, the others, also SelfPatch
        # on MoBY, the trained encoder
        prefer = kind in ('dino', 'selfpatch')
        prefer = prefer and not any('loss_module.queue1' in k for k in state)
        chosen, start = _choose(_found_branches(state), branch, prefer)
    backbone = _below(state, start) if start else _bare(state)
    arch, layout = detect_layout(backbone)
    meta = checkpoint.get('meta') if kind == 'mmdense' else None
    kept = {start + key for key in backbone}
    dropped = [key for key in state if key not in kept]
    return BackboneSource(
        kind=kind,
        branch=chosen,
        prefix=start,
        arch=arch,
        layout=layout,
        state_dict=backbone,
        dropped=dropped,
        meta=dict(meta or {}),
    )
