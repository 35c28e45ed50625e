"""Write the backbone of any checkpoint as one plain file."""

import os
import re
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

import torch
from mmpretrain.models.backbones import ResNet
from torch import Tensor, nn

from mmdense.models.backbones import (
    DistilledVisionTransformer,
    HybridVisionTransformer,
    SwinTransformer,
    VisionTransformer,
)
from mmdense.utils.checkpoint import load_checkpoint_file
from mmdense.utils.checkpoint_keys import (
    CheckpointKeyError,
    Coverage,
    compare,
    extract_backbone,
    from_canonical,
    to_canonical,
)
from mmdense.utils.position import PositionError, infer_grid, infer_window
from mmdense.version import __version__

Shapes = Dict[str, Tuple[int, ...]]
StateDict = Mapping[str, Tensor]
_TOKENS = ('cls_token', 'dist_token')


def _count(state: StateDict, pattern: str) -> int:
    """Highest number that a pattern finds in the keys, plus one."""
    found = [re.match(pattern, key) for key in state]
    return max((int(m.group(1)) + 1 for m in found if m), default=0)


def _need(state: StateDict, *keys: str) -> None:
    missing = [key for key in keys if key not in state]
    if missing:
        raise CheckpointKeyError(
            f'The backbone lacks {missing}, without which its size cannot be '
            'told. Give --arch, or check the file.'
        )


def _is_square(number: int) -> bool:
    try:
        infer_grid(number)
    except PositionError:
        return False
    return True


def _has_cls_token(state: StateDict) -> bool:
    """Whether a ViT has a class token, be it that the entry got lost."""
    if 'cls_token' in state or 'pos_embed' not in state:
        return 'cls_token' in state
    length = state['pos_embed'].shape[1]
    return not _is_square(length) and _is_square(length - 1)


def _vit(state: StateDict, arch: Optional[str]) -> nn.Module:
    if arch is None:
        _need(
            state,
            'layers.0.ffn.layers.0.0.weight',
            'patch_embed.projection.weight',
        )
        hidden, width = state['layers.0.ffn.layers.0.0.weight'].shape
        settings: Any = {
            'embed_dims': width,
            'num_layers': _count(state, r'layers\.(\d+)\.'),
            'num_heads': 1,
            'feedforward_channels': hidden,
        }
    elif arch in VisionTransformer.arch_zoo:
        settings = arch
    else:
        raise CheckpointKeyError(
            f'--arch {arch!r} is no ViT. Names: '
            f'{sorted(VisionTransformer.arch_zoo)}, or a config file.'
        )
    distilled = 'dist_token' in state
    with_cls = distilled or _has_cls_token(state)
    patch = state.get('patch_embed.projection.weight', torch.empty(1, 3, 1, 1))
    scale = any(key.endswith('.gamma1.weight') for key in state)
    options: Dict[str, Any] = {
        'img_size': tuple(patch.shape[2:]),
        'patch_size': tuple(patch.shape[2:]),
        'in_channels': patch.shape[1],
    }
    kind = DistilledVisionTransformer if distilled else VisionTransformer
    stem = r'patch_embed\.backbone\.stages\.'
    if _count(state, stem + r'(\d+)\.'):
        kind = HybridVisionTransformer
        layers = [
            _count(state, rf'{stem}{i}\.blocks\.(\d+)\.') for i in range(3)
        ]
        options = {'img_size': 16, 'layers': layers, 'out_indices': -1}
    with torch.device('meta'):
        return kind(
            settings,
            **options,
            qkv_bias='layers.0.attn.qkv.bias' in state or arch is not None,
            with_cls_token=with_cls,
            final_norm='ln1.weight' in state
            or (with_cls and 'ln2.weight' not in state),
            out_type='avg_featmap' if 'ln2.weight' in state else 'raw',
            pre_norm='pre_norm.weight' in state,
            layer_scale_init_value=1.0 if scale else 0.0,
        )


def _swin(state: StateDict, arch: Optional[str]) -> nn.Module:
    table = 'stages.{}.blocks.0.attn.w_msa.relative_position_bias_table'
    stages = _count(state, r'stages\.(\d+)\.')
    _need(state, 'patch_embed.projection.weight')
    _need(state, *(table.format(i) for i in range(stages)))
    patch = state['patch_embed.projection.weight']
    settings: Any = (arch or '').replace('swin-', '')
    if arch is None:
        settings = {
            'embed_dims': patch.shape[0],
            'depths': [
                _count(state, rf'stages\.{i}\.blocks\.(\d+)\.')
                for i in range(stages)
            ],
            'num_heads': [
                state[table.format(i)].shape[1] for i in range(stages)
            ],
        }
    elif settings not in SwinTransformer.arch_zoo:
        names = sorted(f'swin-{name}' for name in SwinTransformer.arch_zoo)
        raise CheckpointKeyError(
            f'--arch {arch!r} is no Swin. Names: {names}, or a config file.'
        )
    norms = {i for i in range(stages) if f'norm{i}.weight' in state}
    return SwinTransformer(
        settings,
        patch_size=patch.shape[2],
        in_channels=patch.shape[1],
        window_size=infer_window(len(state[table.format(0)])),
        out_indices=tuple(sorted(norms | {stages - 1})),
        use_abs_pos_embed='absolute_pos_embed' in state,
    )


def _resnet(state: StateDict, arch: Optional[str]) -> nn.Module:
    bottleneck = 'layer1.0.conv3.weight' in state
    blocks = [_count(state, rf'layer{i}\.(\d+)\.') for i in range(1, 5)]
    for depth, (block, counts) in sorted(ResNet.arch_settings.items()):
        named = arch is not None and arch.lower() == f'resnet{depth}'
        fits = block.__name__ == ('Bottleneck' if bottleneck else 'BasicBlock')
        fits = fits and all(b <= c for b, c in zip(blocks, counts))
        if named or (arch is None and fits):
            return ResNet(depth)
    names = [f'resnet{depth}' for depth in sorted(ResNet.arch_settings)]
    raise CheckpointKeyError(
        f'Blocks {blocks} per stage with --arch {arch!r} are no ResNet of '
        f'{names}; give a config file.'
    )


def _from_config(path: str) -> nn.Module:
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mmdense.registry import MODELS

    cfg = Config.fromfile(path)
    init_default_scope(cfg.get('default_scope', 'mmdense'))
    # a wrapped method has the backbone one level down
    backbone = cfg.model.get('backbone') or cfg.model.method.backbone
    backbone.pop('init_cfg', None)
    return MODELS.build(backbone)


def expected_shapes(
    state: StateDict, family: str, arch: Optional[str] = None
) -> Shapes:
    """Keys and shapes that a complete backbone of this kind has.

    Args:
        state (Mapping[str, Tensor]): The backbone in mmpretrain's layout.
        family (str): ``'vit'``, ``'swin'`` or ``'resnet'``.
        arch (str, optional): Name (``'deit-small'``, ``'swin-tiny'``,
            ``'resnet50'``) or config file whose ``model.backbone`` to build.
            Defaults to None: read off the keys; layers lost from the end of
            the file are then not noticed.

    Returns:
        Dict[str, Tuple[int, ...]]: Shape of each entry.

    Raises:
        CheckpointKeyError: If the kind is unknown, or the name of another.
    """
    builders = {'vit': _vit, 'swin': _swin, 'resnet': _resnet}
    if arch is not None and arch.endswith('.py'):
        model = _from_config(arch)
    elif family in builders:
        model = builders[family](state, arch)
    else:
        raise CheckpointKeyError(
            'This is no ViT, Swin or ResNet that the converter knows (first '
            f'keys: {list(state)[:4]}). Give the config file as --arch.'
        )
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    for name in ('pos_embed', 'absolute_pos_embed'):
        # any resolution is right
        if name in shapes and name in state:
            if state[name].shape[-1] == shapes[name][-1]:
                shapes[name] = tuple(state[name].shape)
    return shapes


def _grid(state: StateDict, extra: int) -> Optional[list]:
    if 'pos_embed' not in state:
        return None
    try:
        return list(infer_grid(state['pos_embed'].shape[1] - extra))
    except PositionError:
        return None


def export_backbone(
    src: str,
    dst: str,
    layout: str = 'mmpretrain',
    branch: Optional[str] = None,
    min_match: float = 0.9,
    arch: Optional[str] = None,
    prefix: Optional[str] = None,
    trust: Optional[bool] = None,
) -> Coverage:
    """Write the backbone of a checkpoint in one layout.

    The file holds ``state_dict`` and a small ``meta`` of plain values; it
    loads with ``torch.load(dst, weights_only=True)``.

    Args:
        src (str): Checkpoint of a runner or of a supported project.
        dst (str): File to write; folders are made.
        layout (str): ``'mmpretrain'``, ``'mmseg'``, ``'mmdet'`` or
            ``'timm'``. Defaults to ``'mmpretrain'``.
        branch (str, optional): ``'student'`` or ``'teacher'``. Defaults to
            None: see
            :func:`mmdense.utils.checkpoint_keys.extract_backbone`.
        min_match (float): Smallest share of the backbone's parameter values
            that must be there, 0 to 1. Defaults to 0.9.
        arch (str, optional): See :func:`expected_shapes`.
        prefix (str, optional): Take the keys below this prefix.
        trust (bool, optional): Allow files that hold more than data.

    Returns:
        Coverage: What was found, in names of the target layout.

    Raises:
        CoverageError: If less than ``min_match`` is there; nothing is
            written then.
        CheckpointKeyError: If there is no backbone that the layout holds.
    """
    if os.path.abspath(src) == os.path.abspath(dst):
        raise CheckpointKeyError(f'SRC and DST are the same file: {src}.')
    raw = load_checkpoint_file(src, map_location='cpu', trust=trust)
    source = extract_backbone(raw, branch, prefix)
    state, dropped = to_canonical(
        source.state_dict, source.arch, source.layout
    )
    shapes = expected_shapes(state, source.arch, arch)
    blank = {k: torch.empty(s, device='meta') for k, s in shapes.items()}
    target = from_canonical(state, source.arch, layout)
    wanted = {
        k: tuple(v.shape)
        for k, v in from_canonical(blank, source.arch, layout).items()
    }
    coverage = compare(target, wanted, dropped=source.dropped + dropped)
    print(f'{src}: {source.describe()}')
    print(coverage.table())
    coverage.check(min_match)
    kept = {
        key: value.detach().clone().contiguous()
        for key, value in target.items()
        if wanted.get(key) == tuple(value.shape)
    }
    meta = {
        'mmdense_export': __version__,
        'layout': layout,
        'arch': source.arch,
        'kind': source.kind,
        'branch': source.branch,
        'source': os.path.basename(src),
        'pos_grid': source.meta.get('pos_grid')
        or _grid(state, sum(k in shapes for k in _TOKENS)),
    }
    Path(dst).parent.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': kept, 'meta': meta}, dst)
    size = os.path.getsize(dst) / 2**20
    print(f'Wrote {dst}: {layout} layout, {len(kept)} tensors, {size:.1f} MiB')
    return coverage
