"""Replay of the golden cases about backbones and their checkpoints."""

import re
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy as np
import torch
from torch import Tensor

from mmdense.models.backbones import Tokens, VisionTransformer
from mmdense.utils.checkpoint_keys import (
    detect_layout,
    extract_backbone,
    to_canonical,
)
from mmdense.utils.position import Grid, resize_pos_embed

Item = Tuple[str, np.ndarray, np.ndarray, float, float]
Arrays = Mapping[str, np.ndarray]

# form of the position resize: mode, rule, extra tokens, align corners
_RESIZES: Dict[str, Tuple[str, str, int, bool]] = {
    'dino': ('bicubic', 'scale', 1, False),
    'selfpatch': ('bicubic', 'scale', 0, False),
    'dpt': ('bilinear', 'size', 1, False),
    'timm049': ('bilinear', 'size', 1, False),
    'bicubic_size': ('bicubic', 'size', 1, False),
    'bicubic_size_ac': ('bicubic', 'size', 1, True),
}


def _tolerance(case: Dict[str, Any]) -> Tuple[float, float]:
    tolerance = case['tolerance']
    return tolerance.get('rtol', 0.0), tolerance.get('atol', 0.0)


def _weights(arrays: Arrays) -> Dict[str, Tensor]:
    state = {
        key[3:]: torch.from_numpy(np.asarray(arrays[key]))
        for key in arrays
        if key.startswith('sd/')
    }
    return to_canonical(state, *detect_layout(state))[0]


def _vit(case: Dict[str, Any], arrays: Arrays, **options: Any) -> Any:
    """Official weights in our ViT with the official position rule."""
    hyper = case['hyper']
    width = hyper['embed_dim']
    model = VisionTransformer(
        arch={
            'embed_dims': width,
            'num_layers': hyper['depth'],
            'num_heads': hyper['num_heads'],
            'feedforward_channels': int(width * hyper.get('mlp_ratio', 4)),
        },
        img_size=hyper['img_size'],
        patch_size=hyper['patch_size'],
        qkv_bias=hyper.get('qkv_bias', True),
        norm_cfg={'type': 'LN', 'eps': hyper.get('layernorm_eps', 1e-6)},
        out_type='tokens',
        out_indices=list(range(hyper['depth'])),
        pos_embed_rule='scale',
        patch_cfg={'padding': 0},
        **options,
    )
    model.load_state_dict(_weights(arrays), strict=True)
    return model.eval()


def _sequence(tokens: Tokens) -> np.ndarray:
    if tokens.cls is None:
        return tokens.patches.numpy()
    return torch.cat((tokens.cls[:, None], tokens.patches), dim=1).numpy()


@torch.no_grad()
def _replay_vit(
    case: Dict[str, Any], arrays: Arrays, model: Any
) -> Iterator[Item]:
    rtol, atol = _tolerance(case)
    pos_atol = case['tolerance'].get('pos_atol', atol)
    for key in [k[3:] for k in arrays if k.startswith('in/')]:
        image = torch.from_numpy(np.asarray(arrays[f'in/{key}']))
        layers: List[Tokens] = list(model(image))
        final = layers[-1]
        whole = _sequence(final) if final.cls is None else final.cls.numpy()
        got = {
            f'out/{key}': whole,
            f'out/pos_{key}': model.position_embedding(final.hw).numpy(),
        }
        if f'out/attn_{key}' in arrays:
            got[f'out/attn_{key}'] = model.attention_maps(image).numpy()
        for name in arrays:
            match = re.fullmatch(
                rf'out/inter(\d+)_{re.escape(key)}_(\d+)', name
            )
            if match:
                count, index = map(int, match.groups())
                got[name] = _sequence(layers[len(layers) - count + index])
        for name, value in got.items():
            if name in arrays:
                wanted = np.asarray(arrays[name])
                position = name.startswith('out/pos_')
                yield name, value, wanted, rtol, pos_atol if position else atol


def dino_vit(case: Dict[str, Any], arrays: Arrays) -> Iterator[Item]:
    """ViT of DINO: class token, intermediate layers, attention, positions.

    Args:
        case (dict): Entry of ``index.json``.
        arrays (Mapping[str, ndarray]): Arrays of the case by name.

    Yields:
        Tuple: Name, computed value, stored value, rtol, atol.
    """
    model = _vit(case, arrays, norm_taps='all')
    yield from _replay_vit(case, arrays, model)


def selfpatch_vit(case: Dict[str, Any], arrays: Arrays) -> Iterator[Item]:
    """ViT of SelfPatch: no class token, no final norm.

    Args:
        case (dict): Entry of ``index.json``.
        arrays (Mapping[str, ndarray]): Arrays of the case by name.

    Yields:
        Tuple: Name, computed value, stored value, rtol, atol.
    """
    model = _vit(case, arrays, with_cls_token=False, final_norm=False)
    yield from _replay_vit(case, arrays, model)


def pos_embed(case: Dict[str, Any], arrays: Arrays) -> Iterator[Item]:
    """Position resizing in the forms of DINO, SelfPatch, DPT and timm.

    Args:
        case (dict): Entry of ``index.json``.
        arrays (Mapping[str, ndarray]): Arrays of the case by name.

    Yields:
        Tuple: Name, computed value, stored value, rtol, atol.
    """
    rtol, atol = _tolerance(case)
    grid = case['hyper']['grid']
    src: Grid = (grid, grid) if isinstance(grid, int) else tuple(grid)
    source = torch.from_numpy(np.asarray(arrays['in/pos']))
    for name in [key for key in arrays if key.startswith('out/')]:
        form, size = name[len('out/') :].rsplit('_', 1)
        mode, rule, extra, corners = _RESIZES[form]
        height, width = map(int, size.split('x'))
        got = resize_pos_embed(
            source[:, 1 - extra :],
            src,
            (height, width),
            mode,
            rule,
            extra,
            log=False,
            align_corners=corners,
        )
        yield name, got.numpy(), np.asarray(arrays[name]), rtol, atol


def _blank(shapes: Mapping[str, Any]) -> Dict[str, Tensor]:
    return {
        key: torch.empty(tuple(shape), device='meta')
        for key, shape in shapes.items()
    }


def _official_files(data: Mapping[str, Any]) -> Iterator[Tuple[str, dict]]:
    """Checkpoints of the projects, as their files nest them."""
    for name in ('dino', 'selfpatch'):
        if 'backbone_only' in data.get(name, {}):
            yield f'{name}.backbone', _blank(data[name]['backbone_only'])
        parts = ('student', 'teacher')
        if all(part in data.get(name, {}) for part in parts):
            yield (
                f'{name}.full',
                {part: _blank(data[name][part]) for part in parts},
            )
    for name, part, container in (
        ('moby', 'model', 'model'),
        ('mocov3', 'vit_small', 'state_dict'),
        ('mocov3', 'resnet50', 'state_dict'),
        ('swin_t', 'model', 'model'),
    ):
        if part in data.get(name, {}):
            yield f'{name}.{part}', {container: _blank(data[name][part])}


def _wrong_names(names: Mapping[str, Any]) -> int:
    """Number of official keys that do not get the mmpretrain name given."""
    # the size of a tensor says which key it had
    sizes = {key: 4 * i + 4 for i, key in enumerate(names)}
    blank = _blank(
        {
            key: (1, size) if 'reduction' in key else (size,)
            for key, size in sizes.items()
        }
    )
    state, _ = to_canonical(blank, *detect_layout(blank))
    got = {(name, value.shape[-1]) for name, value in state.items()}
    wanted = {
        (name, sizes[key]) for key, name in names.items() if name is not None
    }
    return len(got ^ wanted)


def checkpoint_keys(case: Dict[str, Any], arrays: Arrays) -> Iterator[Item]:
    """Official key names mapped to mmpretrain's, with their shapes.

    Args:
        case (dict): ``data`` holds the content of ``checkpoint_keys.json``.
        arrays (Mapping[str, ndarray]): Not used.

    Yields:
        Tuple: Name, number of wrong names, 0, 0.0, 0.0.
    """
    data, zero = case['data'], np.array(0)
    maps = data.get('mmpretrain_map', {})
    for name, entry in maps.items():
        wrong = _wrong_names(entry['map'])
        yield f'map {name}', np.array(wrong), zero, 0.0, 0.0
    shapes = [
        {key: tuple(shape) for key, shape in entry['mm_shapes'].items()}
        for entry in maps.values()
    ]
    for name, file in _official_files(data):
        source = extract_backbone(file)
        state, _ = to_canonical(source.state_dict, source.arch, source.layout)
        own = {key: tuple(value.shape) for key, value in state.items()}
        wrong_count = min(
            (len(set(own.items()) ^ set(item.items())) for item in shapes),
            default=len(own),
        )
        yield f'file {name}', np.array(wrong_count), zero, 0.0, 0.0
