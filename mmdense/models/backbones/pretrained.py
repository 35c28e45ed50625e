"""Start a backbone from a checkpoint of any supported layout."""

import logging
import re
from typing import Any, Dict, Optional, Sequence, Tuple

import torch
from mmengine.logging import print_log
from mmengine.model.weight_init import update_init_info
from torch import Tensor, nn

from mmdense.registry import WEIGHT_INITIALIZERS
from mmdense.utils.checkpoint import load_checkpoint_file, local_file
from mmdense.utils.checkpoint_keys import (
    BackboneSource,
    CheckpointKeyError,
    Coverage,
    check_vit_kind,
    compare,
    detect_layout,
    extract_backbone,
    from_canonical,
    to_canonical,
)
from mmdense.utils.position import (
    Grid,
    fit_pos_embed,
    infer_grid,
    infer_window,
    resize_rel_pos_table,
)

_POSITIONS = ('pos_embed', 'absolute_pos_embed')
_LAYER = re.compile(r'(layers|blocks|stages)\.\d+\.')
_TABLE = 'relative_position_bias_table'


def _is_ours(cfg: Any) -> bool:
    kind = cfg.get('type') if isinstance(cfg, dict) else None
    return kind == 'mmdense.Pretrained' or kind is Pretrained


def pretrained_last(module: Any) -> None:
    """Move ``mmdense.Pretrained`` behind the other initialisers of a list.

    Args:
        module (nn.Module): Its ``init_cfg`` is replaced if it is a list.
    """
    if isinstance(module.init_cfg, (list, tuple)):
        module.init_cfg = sorted(module.init_cfg, key=_is_ours)


def is_loaded(module: nn.Module) -> bool:
    """Whether a module took its weights from a file.

    Args:
        module (nn.Module): A backbone.

    Returns:
        bool: True after an initialisation from a checkpoint.
    """
    cfg = getattr(module, 'init_cfg', None)
    return isinstance(cfg, dict) and cfg.get('type') == 'Pretrained'


def _module_grid(module: nn.Module, name: str) -> Grid:
    """Patch grid that a module's position embedding is stored for."""
    resolution = getattr(module, 'patch_resolution', None)
    if resolution is not None:
        return int(resolution[0]), int(resolution[1])
    size = getattr(module, 'img_size', None)
    patch = getattr(module, 'patch_size', None)
    if isinstance(size, (tuple, list)) and isinstance(patch, int):
        return size[0] // patch, size[1] // patch
    extra = getattr(module, 'num_extra_tokens', 1)
    return infer_grid(getattr(module, name).shape[1] - extra)


def _source_grid(
    source: BackboneSource, given: Optional[Sequence[int]], entries: int
) -> Optional[Grid]:
    """Grid of the file's positions, None where the model's own may apply."""
    given = given or source.meta.get('pos_grid')
    if given is not None:
        return int(given[0]), int(given[1])
    if source.layout != 'timm':
        return None
    # the public files of this layout are all square, also where a
    # non-square model happens to have as many patches
    for extra in (1, 0, 2):
        try:
            return infer_grid(entries - extra)
        except ValueError:
            continue
    return None


def _fit(
    module: nn.Module,
    state: Dict[str, Tensor],
    source: BackboneSource,
    pos_grid: Optional[Sequence[int]],
) -> Dict[str, str]:
    """Resize positions and tables in place; returns what was resized."""
    own = module.state_dict()
    before = {k: tuple(v.shape) for k, v in state.items()}
    changed: Dict[str, str] = {}
    for name, value in list(state.items()):
        if name in _POSITIONS and name in own and own[name].ndim == 3:
            default = 1 if name == 'pos_embed' else 0
            state[name] = fit_pos_embed(
                value,
                own[name],
                _module_grid(module, name),
                getattr(module, 'num_extra_tokens', default),
                getattr(module, 'interpolate_mode', 'bicubic'),
                getattr(module, 'pos_embed_rule', 'size'),
                _source_grid(source, pos_grid, value.shape[1]),
            )
        elif name.endswith(_TABLE) and name in own:
            if value.shape[1:] == own[name].shape[1:]:
                state[name] = resize_rel_pos_table(
                    value,
                    (infer_window(len(value)),) * 2,
                    (infer_window(len(own[name])),) * 2,
                    getattr(module, 'table_mode', 'bicubic'),
                )
        if state[name] is not value:
            changed[name] = f'from {"x".join(map(str, before[name]))}'
    return changed


def _check_finite(
    checkpoint: str, state: Dict[str, Tensor], expected: Dict[str, tuple]
) -> None:
    bad = [
        name
        for name, value in state.items()
        if name in expected
        and value.is_floating_point()
        and not torch.isfinite(value).all()
    ]
    if bad:
        raise CheckpointKeyError(
            f'{checkpoint} holds NaN or infinity in {len(bad)} tensors, for '
            f'instance {bad[0]}: the run that wrote it had diverged. Take an '
            'earlier checkpoint.'
        )


def _warn_of_deeper(checkpoint: str, unexpected: Sequence[str]) -> None:
    layers = [name for name in unexpected if _LAYER.match(name)]
    if layers:
        print_log(
            f'{checkpoint} has layers that the model has not, for instance '
            f'{layers[0]}: only its first layers were loaded. Check '
            'model.backbone.arch.',
            logger='current',
            level=logging.WARNING,
        )


def load_backbone(
    module: nn.Module,
    checkpoint: str,
    branch: Optional[str] = None,
    prefix: Optional[str] = None,
    min_match: float = 0.9,
    pos_grid: Optional[Sequence[int]] = None,
    trust: Optional[bool] = None,
) -> Coverage:
    """Load a backbone from a file and report what was found.

    Args:
        module (nn.Module): ViT, Swin or ResNet of mmdense, mmpretrain or
            mmseg, or a model with one as ``backbone``.
        checkpoint (str): File or ``http(s)`` address.
        branch (str, optional): ``'student'`` or ``'teacher'``. Defaults to
            None: see
            :func:`mmdense.utils.checkpoint_keys.extract_backbone`.
        prefix (str, optional): Take the keys below this prefix.
        min_match (float): Smallest share of the backbone's parameter values
            that has to be in the file, 0 to 1. Defaults to 0.9.
        pos_grid (Tuple[int, int], optional): Grid ``(H, W)`` of the file's
            position embedding where it is not square.
        trust (bool, optional): Allow files that hold more than data.

    Returns:
        Coverage: What was matched, resized, missing and unexpected.

    Raises:
        CoverageError: If less than ``min_match`` is in the file; nothing is
            loaded then.
        CheckpointKeyError: If the file holds no fitting backbone.
    """
    module = getattr(module, 'backbone', module)
    path = local_file(checkpoint)
    raw = load_checkpoint_file(path, map_location='cpu', trust=trust)
    source = extract_backbone(raw, branch, prefix)
    state, dropped = to_canonical(
        source.state_dict, source.arch, source.layout
    )
    own = module.state_dict()
    arch, layout = detect_layout(own)
    if 'other' not in (arch, source.arch) and arch != source.arch:
        raise CheckpointKeyError(
            f'{checkpoint} holds a {source.arch} backbone, the model is a '
            f'{arch} ({type(module).__name__}).'
        )
    if arch == source.arch == 'vit':
        check_vit_kind(state, own)
    state = from_canonical(
        state, arch, layout if layout in ('mmseg', 'timm') else 'mmpretrain'
    )
    resized = _fit(module, state, source, pos_grid)
    expected = {k: tuple(v.shape) for k, v in own.items()}
    coverage = compare(state, expected, resized, source.dropped + dropped)
    print_log(
        f'{checkpoint}: {source.describe()}\n{coverage.table()}',
        logger='current',
    )
    coverage.check(min_match)
    _check_finite(checkpoint, state, expected)
    _warn_of_deeper(checkpoint, coverage.unexpected)
    # buffers such as batch counters are loaded though they do not count
    fitting = {
        k: v for k, v in state.items() if expected.get(k) == tuple(v.shape)
    }
    module.load_state_dict(fitting, strict=False)
    return coverage


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """Initialise a backbone from a checkpoint of any supported layout.

    Unlike the stock ``Pretrained`` it knows the files of DINO, SelfPatch,
    MoCo v1 to v3, SemCL, MoBY, DenseCL, ReSim, DetCo, SwAV, DPT, timm, DeiT,
    torchvision, official Swin and mmengine runners, resizes position
    embeddings and relative-position tables, prints what was matched, and
    stops when too little was.

    Example:
        ``backbone=dict(type='mmdense.VisionTransformer', ...,
        init_cfg=dict(type='mmdense.Pretrained', checkpoint='dino.pth'))``

    It works in the backbones of mmdense, mmpretrain and for mmseg's ViT.
    The Swin classes of mmseg and mmdet read ``checkpoint`` themselves and
    never call it: use ``mmdense.SwinTransformer`` there.

    Args:
        checkpoint (str, optional): File or ``http(s)`` address. None leaves
            the random initialisation and says so.
        branch (str, optional): ``'student'`` or ``'teacher'``. Defaults to
            None: the teacher of DINO and SelfPatch files, the trained
            encoder of others.
        min_match (float): Smallest share of the backbone's parameter values
            that has to be in the file, 0 to 1. Defaults to 0.9.
        prefix (str, optional): Take the keys below this prefix.
        pos_grid (Tuple[int, int], optional): Grid ``(H, W)`` of the file's
            position embedding where it is not square.
        trust (bool, optional): Allow files that hold more than data. None
            reads the environment variable ``MMDENSE_TRUST_CHECKPOINT``.

    Raises:
        ValueError: If ``min_match`` is no share.
    """

    def __init__(
        self,
        checkpoint: Optional[str] = None,
        branch: Optional[str] = None,
        min_match: float = 0.9,
        prefix: Optional[str] = None,
        pos_grid: Optional[Tuple[int, int]] = None,
        trust: Optional[bool] = None,
    ) -> None:
        if not 0 <= min_match <= 1:
            raise ValueError(f'min_match must be 0 to 1, got {min_match}.')
        self.checkpoint = checkpoint
        self.options: Dict[str, Any] = {
            'branch': branch,
            'min_match': min_match,
            'prefix': prefix,
            'pos_grid': pos_grid,
            'trust': trust,
        }

    def __call__(self, module: Any) -> None:
        """Load the weights and keep later initialisers off them.

        Args:
            module (nn.Module): The module that has this ``init_cfg``.
        """
        name = type(module).__name__
        if self.checkpoint is None:
            print_log(
                f'{name}: no checkpoint given, the weights stay random.',
                logger='current',
            )
            return
        load_backbone(module, self.checkpoint, **self.options)
        # mmengine calls this before the children's own initialisers and
        # knows only the type name 'Pretrained' as final
        module.init_cfg = dict(type='Pretrained', checkpoint=self.checkpoint)
        target = getattr(module, 'backbone', module)
        done = module.children() if target is module else (target,)
        for child in done:
            if hasattr(child, 'init_weights'):
                child.is_init = True
        if hasattr(module, '_params_init_info'):
            update_init_info(
                module, init_info=f'mmdense.Pretrained: {self.checkpoint}'
            )
