"""DPT models in official names, in ours, mmseg's and Hugging Face's.

The official names are the hub: every other layout is a table against them.
"""

import re
from dataclasses import dataclass, field
from typing import Any, List, Mapping, Optional, Tuple

import torch
from torch import Tensor

from .coverage import Coverage, compare
from .dpt_names import DPT_LAYOUTS, Table, rename, table_of
from .dpt_shapes import DPTSpec, official_shapes, read_spec
from .layouts import CheckpointKeyError, StateDict
from .sources import flat_tensors

__all__ = [
    'DPT_LAYOUTS',
    'DPTState',
    'detect_dpt',
    'dpt_from_official',
    'read_dpt',
    'write_dpt',
]

_PATCH = 'pretrained.model.patch_embed.proj'
# keys by which a layout is told
_SIGNS = (
    ('official', r'^scratch\.'),
    ('hf', r'^neck\.(fusion_stage|convs)\.'),
    ('mmdense', r'^decode_head\.decoder\.(lateral|fusion)\.'),
    ('mmseg', r'^decode_head\.(reassemble_blocks|fusion_blocks)\.'),
)
# In official files, without effect on the output.
_UNUSED = re.compile(
    r'^(pretrained\.model\.(norm|head|head_dist|pre_logits|fc_norm)\.'
    r'|scratch\.refinenet4\.resConfUnit1\.)'
)
_NO_PLACE = {
    'hf': re.compile(
        r'^pretrained\.model\.(head|head_dist|pre_logits|fc_norm)\.'
    ),
    'mmseg': re.compile(_UNUSED.pattern + r'|^auxlayer\.'),
}
_QKV = re.compile(r'^(.*\.attn\.)(query|key|value)\.(weight|bias)$')


def _join(state: StateDict) -> StateDict:
    """Query, key and value of Hugging Face as one matrix."""
    out: StateDict = {}
    for key, value in state.items():
        match = _QKV.match(key)
        if match is None:
            out[key] = value
            continue
        start, name, kind = match.groups()
        names = [f'{start}{n}.{kind}' for n in ('query', 'key', 'value')]
        if all(n in state for n in names):
            if name == 'query':
                parts = [state[n] for n in names]
                out[f'{start}qkv.{kind}'] = torch.cat(parts)
        else:
            out[key] = value
    return out


def _split(state: StateDict) -> StateDict:
    out: StateDict = {}
    for key, value in state.items():
        start, found, kind = key.rpartition('.attn.qkv.')
        if found:
            parts = value.chunk(3)
            for name, part in zip(('query', 'key', 'value'), parts):
                out[f'{start}.attn.{name}.{kind}'] = part
        else:
            out[key] = value
    return out


@dataclass
class DPTState:
    """A DPT model in official names, whatever file it came from.

    Attributes:
        layout (str): Layout of the file, one of :data:`DPT_LAYOUTS`.
        state (Dict[str, Tensor]): Entries in official names that have an
            effect on the output.
        extra (Dict[str, Tensor]): Entries without one, kept for the way
            back: the ViT's final norm and classifier, and
            ``refinenet4.resConfUnit1``.
        unexpected (Dict[str, Tensor]): Entries of the file, in its own
            names, that belong to no DPT model.
        spec (DPTSpec): Kind and sizes.
    """

    layout: str
    state: StateDict
    extra: StateDict
    unexpected: StateDict
    spec: DPTSpec
    notes: List[str] = field(default_factory=list)


def detect_dpt(keys: Mapping[str, Tensor]) -> Optional[str]:
    """Layout of a DPT model's keys.

    Args:
        keys (Mapping[str, Tensor]): Keys without wrappers.

    Returns:
        str or None: One of :data:`DPT_LAYOUTS`; None if it is no DPT model.
    """
    for layout, pattern in _SIGNS:
        if any(re.match(pattern, key) for key in keys):
            return layout
    return None


def read_dpt(checkpoint: Any) -> DPTState:
    """Read a DPT model of any layout.

    Args:
        checkpoint (dict): What a file holds, also wrapped in ``model`` or
            ``state_dict``.

    Returns:
        DPTState: The model.

    Raises:
        CheckpointKeyError: If it is no DPT model, or its sizes cannot be
            told.
    """
    flat, _ = flat_tensors(checkpoint)
    layout = detect_dpt(flat)
    if layout is None:
        raise CheckpointKeyError(
            'This is no DPT model: no key starts with scratch. (official), '
            'neck.fusion_stage. (Hugging Face), decode_head.decoder. (ours) '
            f'or decode_head.fusion_blocks. (mmseg), but e.g. '
            f'{sorted(flat)[:4]}. A backbone alone is read by '
            "init_cfg=dict(type='mmdense.Pretrained', ...)."
        )
    found: StateDict = dict(flat)
    unexpected: StateDict = {}
    if layout != 'official':
        seg = any('conv_seg.' in k or k == 'head.head.1.weight' for k in flat)
        hybrid = any('.backbone.bit.' in k for k in flat)
        table = table_of(layout, seg, hybrid)
        found = {}
        for key, value in flat.items():
            name = rename(key, table, to_official=True)
            (unexpected if name is None else found)[name or key] = value
        found = _join(found)
    notes = []
    bias, weight = (f'{_PATCH}.{name}' for name in ('bias', 'weight'))
    if layout == 'mmseg' and weight in found and bias not in found:
        found[bias] = found[weight].new_zeros(len(found[weight]))
        notes.append(
            "mmseg's ViT had no bias in its patch embedding (patch_bias="
            'False): it is written as zeros.'
        )
    extra = {k: v for k, v in found.items() if _UNUSED.match(k)}
    stored = checkpoint.get('official_extra')
    if isinstance(stored, Mapping):
        extra.update(
            {k: v for k, v in stored.items() if isinstance(v, Tensor)}
        )
    state = {k: v for k, v in found.items() if k not in extra}
    return DPTState(layout, state, extra, unexpected, read_spec(state), notes)


def write_dpt(dpt: DPTState, layout: str) -> Tuple[StateDict, Coverage]:
    """Entries of a DPT model in some layout.

    What official and Hugging Face models have beside the used parameters is
    taken from ``dpt.extra``, else made: ones for weights of the norm, zeros
    for the rest; ``dpt.notes`` then says so.

    Args:
        dpt (DPTState): The model.
        layout (str): One of :data:`DPT_LAYOUTS`.

    Returns:
        Tuple[Dict[str, Tensor], Coverage]: Entries that the layout has and
        whose shapes are right; and the comparison with a complete model.

    Raises:
        CheckpointKeyError: If the layout cannot hold this model.
    """
    spec = dpt.spec
    if layout == 'mmseg' and (not spec.seg or spec.hybrid or not spec.layers):
        raise CheckpointKeyError(
            "mmseg's DPTHead holds segmentation models on a plain ViT only: "
            'it has no depth output and its residual units no bias. Convert '
            "to layout 'mmdense'."
        )
    if layout == 'hf' and (spec.distilled or not spec.layers):
        raise CheckpointKeyError(
            'Hugging Face has no DPT with a distilled DeiT or a ResNet as '
            "backbone. Convert to layout 'mmdense' or 'official'."
        )
    state = dict(dpt.state)
    wanted = official_shapes(spec, dpt.state)
    unused = [k for k in wanted if _UNUSED.match(k)]
    dropped: List[str] = []
    if layout == 'mmdense':
        wanted = {k: v for k, v in wanted.items() if k not in unused}
        dropped = sorted(dpt.extra)
    else:
        state.update(_with_unused(dpt, wanted, unused))
        place = _NO_PLACE.get(layout)
        if place is not None:
            dropped = [k for k in state if place.match(k)]
            state = {k: v for k, v in state.items() if k not in dropped}
            wanted = {k: v for k, v in wanted.items() if not place.match(k)}
    blank = {k: torch.empty(v, device='meta') for k, v in wanted.items()}
    if layout != 'official':
        table = table_of(layout, spec.seg, spec.hybrid)
        if layout == 'hf':
            state, blank = _split(state), _split(blank)
        state = _named(state, table)
        blank = _named(blank, table)
    shapes = {k: tuple(v.shape) for k, v in blank.items()}
    coverage = compare(state, shapes, dropped=dropped)
    coverage.unexpected += list(dpt.unexpected)
    # a complete file has no gaps, and nothing that would be refused
    kept = {k: v for k, v in state.items() if shapes.get(k) == v.shape}
    return kept, coverage


def _named(state: StateDict, table: Table) -> StateDict:
    names = {k: rename(k, table, to_official=False) or k for k in state}
    return {names[k]: v for k, v in state.items()}


def _with_unused(
    dpt: DPTState, wanted: Mapping[str, Tuple[int, ...]], unused: List[str]
) -> StateDict:
    out: StateDict = {}
    made: List[str] = []
    like = next(iter(dpt.state.values()))
    for key in unused:
        value = dpt.extra.get(key)
        if value is None:
            fill = 1.0 if key.endswith(('norm.weight', 'bn1.weight')) else 0.0
            count = key.endswith('num_batches_tracked')
            dtype = torch.int64 if count else like.dtype
            value = torch.full(wanted[key], fill, dtype=dtype)
            made.append(key)
        out[key] = value
    if made:
        dpt.notes.append(
            f'{len(made)} entries without effect on the output were not in '
            f'the file and are filled with constants, e.g. {made[0]}.'
        )
    return out


def dpt_from_official(
    state: Mapping[str, Tensor],
) -> Tuple[StateDict, Coverage]:
    """Official DPT entries in our names.

    Args:
        state (Mapping[str, Tensor]): Official (or another layout's) entries.

    Returns:
        Tuple[Dict[str, Tensor], Coverage]: Entries ``backbone.*`` and
        ``decode_head.*``, and the comparison with a complete model.
    """
    return write_dpt(read_dpt(dict(state)), 'mmdense')
