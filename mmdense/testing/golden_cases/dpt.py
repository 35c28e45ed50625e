"""Replay of the golden cases ``dpt_tiny`` and ``dpt_full``."""

import math
import re
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mmdense.models.backbones import (
    HybridVisionTransformer,
    VisionTransformer,
)
from mmdense.models.decode_heads import DPTSegHead
from mmdense.models.depthers import DPTDepthHead
from mmdense.utils.checkpoint_keys.dpt import (
    dpt_from_official,
    read_dpt,
    write_dpt,
)

from .comparison import Arrays, Comparison, Item, tensors

_UNTRAINED = dict(type='mmdense.SILogLoss')
# backbone of the official code: ours, and the widths of its levels
_FULL: Dict[str, Tuple[str, List[Any], List[int], int]] = {
    'vitb16_384': ('base', [2, 5, 8, 11], [96, 192, 384, 768], 768),
    'vitl16_384': ('large', [5, 11, 17, 23], [256, 512, 1024, 1024], 1024),
    'vitb_rn50_384': (
        'hybrid',
        ['stem0', 'stem1', 8, 11],
        [256, 512, 768, 768],
        768,
    ),
}


def _pair(backbone: nn.Module, head: nn.Module) -> Any:
    return nn.ModuleDict(dict(backbone=backbone, decode_head=head))


def _load(model: nn.Module, official: Dict[str, Tensor]) -> None:
    model.load_state_dict(dpt_from_official(official)[0], strict=True)


class _Tiny:
    """Models of ``dpt_tiny`` with the stored weights."""

    def __init__(self, case: Dict[str, Any], arrays: Arrays) -> None:
        self.hyper = case['hyper']
        self.arrays = arrays

    def official(self, kind: str, readout: str) -> Dict[str, Tensor]:
        state = tensors(self.arrays, 'sd/both/')
        state.update(tensors(self.arrays, f'sd/{kind}/'))
        if readout == 'project':
            return state
        return {k: v for k, v in state.items() if '.0.project.' not in k}

    def build(self, kind: str, readout: str, **options: Any) -> Any:
        """Model of a kind ('depth' or 'seg') in evaluation mode."""
        hyper = self.hyper
        width = hyper['embed_dim']
        official = self.official(kind, readout)
        backbone = VisionTransformer(
            arch=dict(
                embed_dims=width,
                num_layers=hyper['depth'],
                num_heads=hyper['num_heads'],
                feedforward_channels=int(width * hyper.get('mlp_ratio', 4)),
            ),
            img_size=hyper['img_size'],
            patch_size=hyper.get('patch_size', 16),
            qkv_bias=hyper.get('qkv_bias', True),
            norm_cfg=dict(type='LN', eps=hyper.get('layernorm_eps', 1e-6)),
            out_type='tokens',
            out_indices=list(hyper['hooks']),
            interpolate_mode='bilinear',
            final_norm=False,
        )
        options.update(
            in_channels=[width] * len(hyper['hooks']),
            reassemble_channels=list(hyper['reassemble']),
            channels=hyper['features'],
            readout=readout,
        )
        head: nn.Module
        if kind == 'seg':
            head = DPTSegHead(num_classes=hyper['num_classes'], **options)
        else:
            hidden = len(official['scratch.output_conv.4.weight'][0])
            head = DPTDepthHead(
                hidden_channels=hidden, loss_decode=_UNTRAINED, **options
            )
        model = _pair(backbone, head)
        _load(model, official)
        return model.eval()

    def image(self, name: str) -> Tensor:
        return tensors(self.arrays, 'in/')[name]

    def map_of(self, name: str) -> Tensor:
        """What the official code computed for ``out/<name>``."""
        what, *options, size = name.split('_')
        image = self.image(size)
        option = options[-1] if options else 'project'
        if what == 'seg':
            return self._logits(option, image)
        settings: Dict[str, Any] = {}
        if option == 'invert':
            settings = dict(
                output='inverse_affine',
                scale=self.hyper['scale'],
                shift=self.hyper['shift'],
                max_depth=math.inf,
            )
            option = 'project'
        elif 'raw' in options:
            settings = dict(non_negative=False)
        model = self.build('depth', option, **settings)
        taps, head = model.backbone(image), model.decode_head
        place = int(what[-1]) if what[-1].isdigit() else 0
        if what.startswith('layer'):
            return head.decoder.reassembled(taps)[place - 1]
        if what.startswith('path'):
            return head.decoder(taps)[-place]
        return head(taps)[:, 0]

    def _logits(self, option: str, image: Tensor) -> Tensor:
        special = option in ('aux', 'train')
        model = self.build('seg', 'project' if special else option)
        head = model.decode_head
        if option == 'train':
            model.train()
            head.dropout.p = 0.0
        taps = model.backbone(image)
        if option == 'aux':
            # the stored values are those on the finest map
            return head.classify_aux(head.fuse(taps)[-1])
        return head(taps)

    def gradients(self) -> Dict[str, Tensor]:
        """Gradients by official name, of what is trained."""
        model = self.build('depth', 'project', non_negative=False)
        depth = model.decode_head(model.backbone(self.image('square')))
        (depth[:, 0] * self.image('w')).sum().backward()
        names = self._official_names()
        return {
            names[key]: parameter.grad
            for key, parameter in model.named_parameters()
        }

    def _official_names(self) -> Dict[str, str]:
        """Official name of each of our parameters."""
        state = self.official('depth', 'project')
        marked = {
            key: torch.full_like(state[key], i) for i, key in enumerate(state)
        }
        ours = dpt_from_official(marked)[0]
        keys = list(state)
        return {k: keys[int(v.flatten()[0])] for k, v in ours.items()}


def dpt_tiny(case: Dict[str, Any], arrays: Arrays) -> Iterator[Item]:
    """Compare small DPT models with the stored maps and gradients.

    Args:
        case (dict): Entry of ``index.json``.
        arrays (Mapping[str, ndarray]): Arrays of the case by name.

    Yields:
        Tuple: Name, computed value, stored value, rtol, atol.
    """
    compare = Comparison(case, arrays)
    tiny = _Tiny(case, arrays)
    for name in arrays:
        group, _, rest = name.partition('/')
        if group == 'out':
            with torch.no_grad():
                yield compare.item(name, tiny.map_of(rest))
    grads = tiny.gradients()
    for name in arrays:
        if name.startswith('grad/'):
            yield compare.item(name, grads[name[len('grad/') :]])
    unused = set(case.get('none_grad', ()))
    wrong = sum((grad is None) != (k in unused) for k, grad in grads.items())
    yield 'parameters without gradient', np.array(wrong), np.array(0), 0, 0


def _full_model(kind: str, name: str, classes: int) -> Any:
    family, taps, widths, width = _FULL[name]
    options: Dict[str, Any] = dict(
        arch='base' if family == 'hybrid' else family,
        img_size=384,
        out_indices=taps,
        interpolate_mode='bilinear',
        final_norm=False,
    )
    levels = ['tokens'] * 4
    channels = [width] * 4
    backbone: nn.Module
    if family == 'hybrid':
        backbone = HybridVisionTransformer(**options)
        levels[:2] = ['map', 'map']
        channels[:2] = widths[:2]
    else:
        # the weights of timm's ViTs come with this eps
        backbone = VisionTransformer(
            out_type='tokens', norm_cfg=dict(type='LN', eps=1e-6), **options
        )
    given: Dict[str, Any] = dict(
        in_channels=channels, levels=levels, reassemble_channels=widths
    )
    if kind == 'seg':
        return _pair(backbone, DPTSegHead(num_classes=classes, **given))
    head = DPTDepthHead(non_negative=False, loss_decode=_UNTRAINED, **given)
    return _pair(backbone, head)


def _fill(shapes: Mapping[str, Tensor], seed: int) -> Dict[str, Tensor]:
    """Weights of the recipe of the case."""
    random = np.random.RandomState(seed)
    state = {}
    for key in sorted(shapes):
        if key.endswith('.num_batches_tracked'):
            state[key] = torch.zeros_like(shapes[key])
            continue
        shape = tuple(shapes[key].shape)
        z = random.standard_normal(shape).astype(np.float32)
        if key.endswith('.running_var'):
            z = 1 + 0.1 * np.abs(z)
        elif key.endswith('.weight') and len(shape) == 1:
            z = 1 + 0.02 * z
        else:
            z = 0.04 * z
        state[key] = torch.from_numpy(z.astype(np.float32))
    return state


def dpt_full(case: Dict[str, Any], arrays: Arrays) -> Iterator[Item]:
    """Compare models of real size with weights of a recipe.

    Args:
        case (dict): Entry of ``index.json``.
        arrays (Mapping[str, ndarray]): Arrays of the case by name.

    Yields:
        Tuple: Name, computed value, stored value, rtol, atol.
    """
    hyper = case['hyper']
    for name, setting in hyper['models'].items():
        shape = np.asarray(arrays[f'out/{name}_shape'])
        classes = int(shape[1]) if setting['kind'] == 'seg' else 0
        model = _full_model(setting['kind'], setting['backbone'], classes)
        own = read_dpt(dict(state_dict=model.state_dict()))
        official = _fill(write_dpt(own, 'official')[0], setting['seed'])
        count = sum(value.numel() for value in official.values())
        key = f'out/{name}_n_params'
        yield key, np.array(count), np.asarray(arrays[key]), 0.0, 0.0
        _load(model, official)
        yield from _full_output(case, arrays, name, model.eval())


@torch.no_grad()
def _full_output(
    case: Dict[str, Any], arrays: Arrays, name: str, model: Any
) -> List[Item]:
    seed = case['hyper']['models'][name]['seed']
    random = np.random.RandomState(seed + 1)
    image = random.standard_normal(case['hyper']['in_shape'])
    output = model.decode_head(
        model.backbone(torch.from_numpy(image.astype(np.float32)))
    )
    if case['hyper']['models'][name]['kind'] == 'depth':
        output = output[:, 0]
    flat = output.flatten().double().numpy()
    places = np.linspace(0, flat.size - 1, 16).astype(np.int64)
    got = dict(
        shape=np.array(output.shape),
        stats=np.array([flat.mean(), flat.std(), flat.min(), flat.max()]),
        samples=flat[places],
    )
    rtol, atol = _tolerance(case, float(arrays[f'out/{name}_stats'][1]))
    items: List[Item] = []
    for kind, value in got.items():
        key = f'out/{name}_{kind}'
        exact = kind == 'shape'
        want = np.asarray(arrays[key])
        allowed = (0.0, 0.0) if exact else (rtol, atol)
        items.append((key, value, want, *allowed))
    return items


def _tolerance(case: Dict[str, Any], std: float) -> Tuple[float, float]:
    """Tolerance of a case, with a part in units of the deviation."""
    rules = case['tolerance']
    atol = rules.get('atol', 0.0)
    if isinstance(atol, str):
        found = re.match(r'\s*([\d.eE+-]+)\s*\*\s*std', atol)
        if found is None:
            raise ValueError(f'No tolerance in {atol!r}.')
        atol = float(found.group(1)) * std
    return rules.get('rtol', 0.0), atol
