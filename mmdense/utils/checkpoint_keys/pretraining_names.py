"""Names of the parts of DINO, SelfPatch and MoBY, official and ours."""

import re
from typing import Dict, Iterable, List, Optional, Tuple

import torch

from .layouts import (
    CheckpointKeyError,
    StateDict,
    detect_layout,
    from_canonical,
    to_canonical,
)

# set by schedules, or rebuilt
REBUILT = re.compile(
    r'(^|\.)teacher\.momentum$|(^|\.)teacher_temp$|^data_preprocessor\.'
    r'|^ema_model\.'
)
_FOREIGN = (
    (r'(^|\.)(base_encoder|momentum_encoder)\.', 'MoCo v3 or SemCL'),
    (r'^pretrained\.model\.', 'DPT'),
)

METHODS = ('dino', 'selfpatch', 'moby')
SIDES = ('official', 'mmdense')

# branch and part of a network, as in ('teacher', 'neck')
Part = Tuple[str, str]


def _both(student: str, teacher: str, **parts: str) -> Dict[Part, str]:
    return {
        (branch, name): start + prefix
        for branch, start in (('student', student), ('teacher', teacher))
        for name, prefix in parts.items()
    }


OFFICIAL: Dict[str, Dict[Part, str]] = {
    'dino': _both('student.', 'teacher.', backbone='backbone.', neck='head.'),
    'selfpatch': _both(
        'student.',
        'teacher.',
        backbone='backbone.',
        pool='ca_head.',
        neck='c_head.',
        patch_head='p_head.',
    ),
    'moby': {
        ('student', 'backbone'): 'encoder.',
        ('student', 'neck'): 'projector.',
        ('student', 'predictor'): 'predictor.',
        ('teacher', 'backbone'): 'encoder_k.',
        ('teacher', 'neck'): 'projector_k.',
    },
}
_MAIN = {'backbone': 'backbone.', 'neck': 'neck.'}
OWN: Dict[str, Dict[Part, str]] = {
    'dino': _both('', 'teacher.', **_MAIN),
    'selfpatch': _both(
        'method.',
        'method.teacher.',
        **_MAIN,
        pool='pool.',
        patch_head='patch_head.',
    ),
    'moby': {
        **_both('', 'teacher.', **_MAIN),
        ('student', 'predictor'): 'predictor.',
    },
}
# our name and the official one
BUFFERS: Dict[str, Dict[str, str]] = {
    'dino': {'loss_module.center': 'dino_loss.center'},
    'selfpatch': {
        'method.loss_module.center': 'dino_loss.center',
        'patch_loss.center': 'dino_loss.patch_center',
    },
    'moby': {
        f'loss_module.{name}': name
        for name in ('queue1', 'queue2', 'queue_ptr')
    },
}
OFFICIAL_SHAPES = {
    ('selfpatch', 'dino_loss.center'): (1, 1, -1),
    ('selfpatch', 'dino_loss.patch_center'): (1, -1),
    ('dino', 'dino_loss.center'): (1, -1),
}


def _mlp_to_own(state: StateDict) -> StateDict:
    """MLP of MoBY to the names of ``mmpretrain.NonLinearNeck``."""
    layers = [re.match(r'linear_hidden\.(\d+)\.', key) for key in state]
    # each layer is linear, norm, ReLU behind a first identity
    count = max((-(-int(m.group(1)) // 3) for m in layers if m), default=0)
    out: StateDict = {}
    for key, value in state.items():
        match = re.match(r'linear_hidden\.(\d+)\.(.*)', key)
        if match:
            layer, place = divmod(int(match.group(1)) - 1, 3)
            key = f'{("fc", "bn", "act")[place]}{layer}.{match.group(2)}'
        out[re.sub(r'^linear_out\.', f'fc{count}.', key)] = value
    return out


def _mlp_to_official(state: StateDict) -> StateDict:
    numbers = [re.match(r'fc(\d+)\.', key) for key in state]
    last = max((int(m.group(1)) for m in numbers if m), default=0)
    out: StateDict = {}
    for key, value in state.items():
        match = re.match(r'(fc|bn)(\d+)\.(.*)', key)
        if match:
            layer, rest = int(match.group(2)), match.group(3)
            place = 3 * layer + (1 if match.group(1) == 'fc' else 2)
            out_layer = layer == last and match.group(1) == 'fc'
            key = 'linear_out.' if out_layer else f'linear_hidden.{place}.'
            key += rest
        out[key] = value
    return out


def part_to_own(
    method: str, part: str, state: StateDict
) -> Tuple[StateDict, List[str]]:
    """Rename the entries of an official part.

    Args:
        method (str): ``'dino'``, ``'selfpatch'`` or ``'moby'``.
        part (str): ``'backbone'``, ``'pool'``, ``'neck'``, ...
        state (Dict[str, Tensor]): Entries without the part's prefix.

    Returns:
        Tuple[Dict[str, Tensor], List[str]]: Entries in our names, and the
        official ones that we have no place for.
    """
    if part == 'backbone':
        return to_canonical(state, *detect_layout(state))
    if part == 'pool':
        pairs = ((re.sub('^cls_blocks', 'blocks', k), k) for k in state)
        return {own: state[key] for own, key in pairs}, []
    return (_mlp_to_own(state) if method == 'moby' else dict(state)), []


def part_to_official(
    method: str, part: str, arch: str, state: StateDict
) -> StateDict:
    """Rename the entries of a part of ours.

    Args:
        method (str): ``'dino'``, ``'selfpatch'`` or ``'moby'``.
        part (str): ``'backbone'``, ``'pool'``, ``'neck'``, ...
        arch (str): Of the backbone: ``'vit'``, ``'swin'``, ``'resnet'``.
        state (Dict[str, Tensor]): Entries without the part's prefix.

    Returns:
        Dict[str, Tensor]: Entries in official names.
    """
    if part == 'backbone':
        return from_canonical(state, arch, 'timm')
    if part == 'pool':
        return {
            re.sub('^blocks', 'cls_blocks', k): v for k, v in state.items()
        }
    return _mlp_to_official(state) if method == 'moby' else dict(state)


def image_side(state: StateDict) -> Optional[int]:
    """Image side that the masks of an official Swin were made for.

    Args:
        state (Dict[str, Tensor]): Backbone in official names.

    Returns:
        int or None: In pixels; None without masks.
    """
    for key, value in state.items():
        match = re.match(r'layers\.(\d+)\.blocks\.\d+\.attn_mask$', key)
        if match and 'patch_embed.proj.weight' in state:
            windows, window = value.shape[0] ** 0.5, value.shape[1] ** 0.5
            patch = state['patch_embed.proj.weight'].shape[-1]
            stage = 2 ** int(match.group(1))
            return round(windows) * round(window) * patch * stage
    return None


def inner_norms(state: StateDict) -> List[str]:
    """Keys of norms that our Swin has for dense heads, behind inner stages."""
    stages = [re.match(r'stages\.(\d+)\.', key) for key in state]
    last = max((int(m.group(1)) for m in stages if m), default=0)
    norms = [key for key in state if re.match(r'norm\d+\.', key)]
    return [key for key in norms if not key.startswith(f'norm{last}.')]


def shift_masks(state: StateDict, img_size: int) -> StateDict:
    """Attention masks that an official Swin keeps as buffers.

    Shifted windows mix up to four regions of the map; pairs of patches from
    different regions get -100.

    Source: microsoft/Swin-Transformer ``models/swin_transformer.py``.

    Args:
        state (Mapping[str, Tensor]): Swin in official names.
        img_size (int): Image side in pixels.

    Returns:
        Dict[str, Tensor]: ``layers.i.blocks.j.attn_mask`` of shape
        ``(windows, w * w, w * w)``; none for maps that are no larger than a
        window or that windows do not fill.
    """
    masks: StateDict = {}
    for key, value in state.items():
        match = re.match(
            r'(layers\.(\d+)\.blocks\.(\d+)\.)attn\.relative_position_bias_'
            r'table$',
            key,
        )
        if not match or int(match.group(3)) % 2 == 0:
            continue
        window = (round(value.shape[0] ** 0.5) + 1) // 2
        patch = state['patch_embed.proj.weight'].shape[-1]
        side = img_size // patch // 2 ** int(match.group(2))
        if side <= window or side % window:
            continue
        place = torch.arange(side)
        zone = (place >= side - window).long()
        zone += place >= side - window // 2
        region = (3 * zone[:, None] + zone).view(
            side // window, window, side // window, window
        )
        region = region.transpose(1, 2).reshape(-1, window * window)
        mask = torch.zeros(len(region), window**2, window**2)
        mask[region[:, :, None] != region[:, None]] = -100.0
        masks[match.group(1) + 'attn_mask'] = mask
    return masks


def has_key(keys: Iterable[str], pattern: str) -> bool:
    """Whether a pattern is found in any of the keys."""
    search = re.compile(pattern).search
    return any(search(key) for key in keys)


def _detect(state: StateDict) -> Tuple[Optional[str], Optional[str]]:
    """Side and method, None where the keys do not tell."""
    for pattern, name in _FOREIGN:
        if has_key(state, pattern):
            raise CheckpointKeyError(
                f'This is a {name} file; only DINO, SelfPatch and MoBY are '
                'converted as a whole. tools/model_converters/'
                'export_backbone.py takes its backbone.'
            )
    for pattern, side, method in (
        (r'(^|\.)ca_head\.', 'official', 'selfpatch'),
        (r'^(encoder_k|projector|projector_k)\.', 'official', 'moby'),
        (r'^encoder\.', 'official', 'moby'),
        (r'^method\.', 'mmdense', 'selfpatch'),
        (r'^(loss_module\.queue|predictor\.fc)', 'mmdense', 'moby'),
        (r'^(neck\.last_layer|loss_module\.center)', 'mmdense', 'dino'),
        (r'(^|\.)head\.(mlp|last_layer)\.', 'official', 'dino'),
    ):
        if has_key(state, pattern):
            return side, method
    return None, None


def _guess(state: StateDict, side: Optional[str]) -> Tuple[str, str]:
    """Side and method of a file with nothing but a backbone."""
    before = re.compile(r'^((student|teacher)\.)?(.*backbone\.)?')
    plain = {before.sub('', key): value for key, value in state.items()}
    arch, layout = detect_layout(plain)
    outside = [
        key
        for key in state
        if 'backbone.' not in key and not REBUILT.search(key)
    ]
    mixed = 0 < len(outside) < len(state)
    if arch == 'other' or layout == 'mmseg' or mixed:
        first = sorted({key.split('.')[0] for key in state})[:12]
        raise CheckpointKeyError(
            'This is no checkpoint of DINO, SelfPatch or MoBY, neither of '
            f'the official code nor of mmdense. First parts of its keys: '
            f'{first}.'
        )
    method = 'dino' if 'cls_token' in plain else 'selfpatch'
    method = {'vit': method, 'swin': 'moby'}.get(arch, 'dino')
    official = layout == 'timm' or arch == 'resnet'
    return side or ('official' if official else 'mmdense'), method


def _refuse_mixed(state: StateDict) -> None:
    """Forms of ours that no official code has."""
    if has_key(state, r'^method\.(predictor|loss_module\.queue)'):
        raise CheckpointKeyError(
            'This is a checkpoint of SelfPatch on MoBY, of which there is no '
            'official code. tools/model_converters/export_backbone.py '
            '--layout timm takes its backbone.'
        )
    if has_key(state, r'^pool\.') and not has_key(state, r'^method\.'):
        raise CheckpointKeyError(
            'This method has an aggregation head (pool), which the official '
            'DINO and MoBY have no place for. tools/model_converters/'
            'export_backbone.py --layout timm takes its backbone.'
        )


def recognize(
    state: StateDict, method: Optional[str], side: Optional[str]
) -> Tuple[str, str, List[str]]:
    """Tell side and method of a checkpoint by its keys.

    Args:
        state (Dict[str, Tensor]): Flat entries of the file.
        method (str, optional): What the caller says.
        side (str, optional): What the caller says.

    Returns:
        Tuple[str, str, List[str]]: Side, method and notes for the report.

    Raises:
        CheckpointKeyError: If it is none of them, or another one.
    """
    for name, value, known in (
        ('method', method, METHODS),
        ('side', side, SIDES),
    ):
        if value is not None and value not in known:
            raise CheckpointKeyError(
                f'{name}={value!r}: needs one of {known}.'
            )
    notes = []
    found_side, found = _detect(state)
    if found is None:
        found_side, guess = _guess(state, side)
        found = method or guess
        if method is None:
            notes.append(
                f'Nothing but a backbone is in the file: taken for {found}. '
                'Say it with --method if it is of another method.'
            )
    for name, wanted, got in (
        ('method', method, found),
        ('side', side, found_side),
    ):
        if wanted is not None and wanted != got:
            raise CheckpointKeyError(
                f'{name}={wanted!r} was asked for, the keys are those of '
                f'{found_side} {found}.'
            )
    _refuse_mixed(state)
    return str(found_side), found, notes
