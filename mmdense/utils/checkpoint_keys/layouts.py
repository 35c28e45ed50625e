"""Key names of one backbone in the layouts of the ecosystems."""

import re
from typing import Callable, Dict, Iterable, List, Mapping, Tuple

from torch import Tensor

from ..checkpoint import CheckpointError

StateDict = Dict[str, Tensor]
Rules = Tuple[Tuple[str, str], ...]

LAYOUTS = ('mmpretrain', 'mmseg', 'mmdet', 'timm')

# Heads and pre-training parts that no backbone has.
_DROP = re.compile(
    r'^(head|head_dist|heads|fc|classifier|pre_logits|decoder\w*|mask_token'
    r'|stem\.fc|fpn_(lateral|output)\d)(\.|$)'
)
# Parts that make a ViT another class, and what they are.
_VIT_KINDS = (
    (
        'dist_token',
        'a distillation token (dist_token) and N + 2 positions',
        'mmdense.DistilledVisionTransformer',
    ),
    (
        'patch_embed.backbone.',
        'a ResNet as patch embedding (hybrid ViT)',
        'mmdense.HybridVisionTransformer',
    ),
)
_SWIN_MASK = re.compile(r'(^|\.)attn_mask$')

_VIT_FROM_TIMM: Rules = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^blocks\.(\d+)\.norm([12])\.', r'layers.\1.ln\2.'),
    (r'^blocks\.(\d+)\.mlp\.fc1\.', r'layers.\1.ffn.layers.0.0.'),
    (r'^blocks\.(\d+)\.mlp\.fc2\.', r'layers.\1.ffn.layers.1.'),
    (r'^blocks\.(\d+)\.ls1\.gamma$', r'layers.\1.attn.gamma1.weight'),
    (r'^blocks\.(\d+)\.ls2\.gamma$', r'layers.\1.ffn.gamma2.weight'),
    (r'^blocks\.(\d+)\.', r'layers.\1.'),
    (r'^norm_pre\.', 'pre_norm.'),
    (r'^fc_norm\.', 'ln2.'),
    (r'^norm\.', 'ln1.'),
)
_VIT_TO_TIMM: Rules = (
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^layers\.(\d+)\.ln([12])\.', r'blocks.\1.norm\2.'),
    (r'^layers\.(\d+)\.ffn\.layers\.0\.0\.', r'blocks.\1.mlp.fc1.'),
    (r'^layers\.(\d+)\.ffn\.layers\.1\.', r'blocks.\1.mlp.fc2.'),
    (r'^layers\.(\d+)\.attn\.gamma1\.weight$', r'blocks.\1.ls1.gamma'),
    (r'^layers\.(\d+)\.ffn\.gamma2\.weight$', r'blocks.\1.ls2.gamma'),
    (r'^layers\.(\d+)\.', r'blocks.\1.'),
    (r'^pre_norm\.', 'norm_pre.'),
    (r'^ln2\.', 'fc_norm.'),
    (r'^ln1\.', 'norm.'),
)
_VIT_TO_MMSEG: Rules = (
    (r'\.attn\.qkv\.(weight|bias)$', r'.attn.attn.in_proj_\1'),
    (r'\.attn\.proj\.', '.attn.attn.out_proj.'),
)
_VIT_FROM_MMSEG: Rules = (
    (r'\.attn\.attn\.in_proj_(weight|bias)$', r'.attn.qkv.\1'),
    (r'\.attn\.attn\.out_proj\.', '.attn.proj.'),
)
_SWIN_FROM_TIMM: Rules = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^layers\.', 'stages.'),
    (r'\.attn\.', '.attn.w_msa.'),
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
)
_SWIN_TO_TIMM: Rules = (
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^stages\.', 'layers.'),
    (r'\.attn\.w_msa\.', '.attn.'),
    (r'\.ffn\.layers\.0\.0\.', '.mlp.fc1.'),
    (r'\.ffn\.layers\.1\.', '.mlp.fc2.'),
)
_RESNET_FROM_DETECTRON: Rules = (
    (r'^stem\.', ''),
    (r'^res2\.', 'layer1.'),
    (r'^res3\.', 'layer2.'),
    (r'^res4\.', 'layer3.'),
    (r'^res5\.', 'layer4.'),
    (r'(^|\.)conv(\d)\.norm\.', r'\1bn\2.'),
    (r'\.shortcut\.norm\.', '.downsample.1.'),
    (r'\.shortcut\.', '.downsample.0.'),
)

_SIGNATURES: Tuple[Tuple[str, str, str], ...] = (
    (r'^layers\.\d+\.blocks\.\d+\.', 'swin', 'timm'),
    (r'^stages\.\d+\.blocks\.\d+\.attn\.w_msa\.', 'swin', 'mmpretrain'),
    (r'^blocks\.\d+\.attn\.qkv\.', 'vit', 'timm'),
    (r'^layers\.\d+\.attn\.attn\.in_proj_', 'vit', 'mmseg'),
    (r'^layers\.\d+\.attn\.qkv\.', 'vit', 'mmpretrain'),
    (r'^layer1\.0\.conv1\.', 'resnet', 'mmpretrain'),
    (r'^res2\.0\.conv1\.', 'resnet', 'detectron2'),
)


class CheckpointKeyError(CheckpointError):
    """A checkpoint whose keys are not those of a usable backbone."""


def detect_layout(keys: Iterable[str]) -> Tuple[str, str]:
    """Architecture family and layout of backbone keys without a prefix.

    Args:
        keys (Iterable[str]): Keys of a state dict.

    Returns:
        Tuple[str, str]: ``'vit'``, ``'swin'``, ``'resnet'`` or ``'other'``,
        and ``'mmpretrain'`` (also ResNet of torchvision and timm),
        ``'mmseg'``, ``'timm'`` (also official DINO, SelfPatch, DeiT, Swin),
        ``'detectron2'`` or ``'unknown'``.
    """
    keys = list(keys)
    for pattern, arch, layout in _SIGNATURES:
        matches = re.compile(pattern).search
        if any(matches(key) for key in keys):
            return arch, layout
    return 'other', 'unknown'


def check_vit_kind(found: Iterable[str], wanted: Iterable[str]) -> None:
    """Refuse a ViT of another kind than the model.

    Args:
        found (Iterable[str]): Keys of the file's ViT.
        wanted (Iterable[str]): Keys of the model's.

    Raises:
        CheckpointKeyError: If one of them is distilled or hybrid and the
            other is not.
    """
    found, wanted = list(found), list(wanted)
    for start, what, kind in _VIT_KINDS:
        here = any(key.startswith(start) for key in found)
        there = any(key.startswith(start) for key in wanted)
        if here and not there:
            raise CheckpointKeyError(
                f'The ViT of the file has {what}, for which the model has no '
                f"place. Use backbone=dict(type='{kind}', ...), or a file of "
                'a plain ViT.'
            )
        if there and not here and start != 'dist_token':
            raise CheckpointKeyError(
                f'The model has {what}, the file has not. Use '
                "backbone=dict(type='mmdense.VisionTransformer', ...), or a "
                'file of a hybrid ViT.'
            )


def _rename(key: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        renamed, count = re.subn(pattern, replacement, key, count=1)
        if count:
            key = renamed
            if pattern.startswith(('^blocks', r'^layers\.(')):
                break  # one rule names a whole block entry
    return key


def _mapped(state: Mapping[str, Tensor], rules: Rules) -> StateDict:
    return {_rename(key, rules): value for key, value in state.items()}


def merging_to_unfold(key: str, value: Tensor) -> Tensor:
    """Reorder a patch-merging tensor from official Swin to ``nn.Unfold``.

    The official code concatenates the four neighbours as (row, column) =
    00, 10, 01, 11 with channels innermost; ``nn.Unfold`` has channels
    outermost and neighbours 00, 01, 10, 11.

    Args:
        key (str): Its key, ending in ``downsample.reduction.weight`` or
            ``downsample.norm.{weight,bias}``.
        value (Tensor): ``(2C, 4C)`` or ``(4C,)``.

    Returns:
        Tensor: Same shape.
    """
    if 'downsample.reduction.' in key:
        out, width = value.shape
        grouped = value.reshape(out, 4, width // 4)[:, [0, 2, 1, 3]]
        return grouped.transpose(1, 2).reshape(out, width)
    if 'downsample.norm.' in key:
        grouped = value.reshape(4, -1)[[0, 2, 1, 3]]
        return grouped.transpose(0, 1).reshape(-1)
    return value


def unfold_to_merging(key: str, value: Tensor) -> Tensor:
    """Inverse of :func:`merging_to_unfold`.

    Args:
        key (str): Its key.
        value (Tensor): ``(2C, 4C)`` or ``(4C,)``.

    Returns:
        Tensor: Same shape.
    """
    if 'downsample.reduction.' in key:
        out, width = value.shape
        grouped = value.reshape(out, width // 4, 4).transpose(1, 2)
        return grouped[:, [0, 2, 1, 3]].reshape(out, width)
    if 'downsample.norm.' in key:
        grouped = value.reshape(-1, 4).transpose(0, 1)
        return grouped[[0, 2, 1, 3]].reshape(-1)
    return value


def _last_stage(keys: Iterable[str], name: str) -> int:
    found = [re.match(rf'^{name}\.(\d+)\.', key) for key in keys]
    return max((int(m.group(1)) for m in found if m), default=0)


def _swin_from_timm(state: Mapping[str, Tensor]) -> StateDict:
    last = _last_stage(state, 'layers')
    # timm >= 0.9 puts the merging in front of a stage, others behind one
    shift = any(k.startswith(f'layers.{last}.downsample.') for k in state)
    out: StateDict = {}
    for key, value in state.items():
        match = re.match(r'^layers\.(\d+)\.downsample\.', key)
        if match and shift:
            stage = int(match.group(1)) - 1
            key = f'layers.{stage}.downsample.{key[match.end() :]}'
        name = _rename(key, _SWIN_FROM_TIMM)
        name = re.sub(r'^norm\.', f'norm{last}.', name)
        out[name] = merging_to_unfold(name, value)
    return out


def _swin_to_timm(state: Mapping[str, Tensor]) -> StateDict:
    last = _last_stage(state, 'stages')
    out: StateDict = {}
    for key, value in state.items():
        # norms of other stages belong to a dense head; timm has none
        if re.match(r'^norm\d+\.', key) and not key.startswith(f'norm{last}.'):
            continue
        name = _rename(key, _SWIN_TO_TIMM)
        name = re.sub(rf'^norm{last}\.', 'norm.', name)
        out[name] = unfold_to_merging(name, value)
    return out


def to_canonical(
    state: Mapping[str, Tensor], arch: str, layout: str
) -> Tuple[StateDict, List[str]]:
    """Rename the keys of a backbone to mmpretrain's.

    Args:
        state (Mapping[str, Tensor]): Backbone keys without a prefix.
        arch (str): ``'vit'``, ``'swin'``, ``'resnet'`` or ``'other'``.
        layout (str): Layout from :func:`detect_layout`.

    Returns:
        Tuple[Dict[str, Tensor], List[str]]: The renamed entries, and the
        source keys that were dropped (heads, masks of Swin).
    """
    kept: StateDict = {}
    dropped: List[str] = []
    for key, value in state.items():
        drop = _DROP.match(key) or (arch == 'swin' and _SWIN_MASK.search(key))
        if drop:
            dropped.append(key)
        else:
            kept[key] = value
    maps: Dict[Tuple[str, str], Callable[[StateDict], StateDict]] = {
        ('vit', 'timm'): lambda s: _mapped(s, _VIT_FROM_TIMM),
        ('vit', 'mmseg'): lambda s: _mapped(s, _VIT_FROM_MMSEG),
        ('swin', 'timm'): _swin_from_timm,
        ('resnet', 'detectron2'): lambda s: _mapped(s, _RESNET_FROM_DETECTRON),
    }
    convert = maps.get((arch, layout))
    return (convert(kept) if convert else kept), dropped


def from_canonical(
    state: Mapping[str, Tensor], arch: str, layout: str
) -> StateDict:
    """Rename canonical keys to a target layout.

    Args:
        state (Mapping[str, Tensor]): Keys of mmpretrain's backbone.
        arch (str): ``'vit'``, ``'swin'``, ``'resnet'`` or ``'other'``.
        layout (str): ``'mmpretrain'``; ``'mmseg'`` (differs for ViT only);
            ``'mmdet'`` (mmpretrain's names behind ``backbone.``, also for
            stock mmdet Swin and ResNet); ``'timm'`` (official DINO, DeiT and
            Swin names).

    Returns:
        Dict[str, Tensor]: The renamed entries.

    Raises:
        CheckpointKeyError: If the layout is unknown or cannot hold this
            backbone.
    """
    if layout not in LAYOUTS:
        raise CheckpointKeyError(
            f'Unknown layout {layout!r}; choose from {LAYOUTS}.'
        )
    if layout == 'mmdet':
        return {'backbone.' + key: value for key, value in state.items()}
    if layout == 'mmseg' and arch == 'vit':
        if 'cls_token' not in state:
            raise CheckpointKeyError(
                'mmseg.VisionTransformer always has a class token, so it '
                'cannot hold this ViT without one. Export to mmpretrain and '
                "use backbone=dict(type='mmdense.VisionTransformer', "
                'with_cls_token=False, ...) in mmseg.'
            )
        for start, what, kind in _VIT_KINDS:
            if any(key.startswith(start) for key in state):
                raise CheckpointKeyError(
                    f'mmseg.VisionTransformer cannot hold this ViT: it has '
                    f'{what}. Export to mmpretrain and use '
                    f"backbone=dict(type='{kind}', ...) in mmseg."
                )
        return _mapped(state, _VIT_TO_MMSEG)
    if layout == 'timm' and arch == 'vit':
        return _mapped(state, _VIT_TO_TIMM)
    if layout == 'timm' and arch == 'swin':
        return _swin_to_timm(state)
    return dict(state)
