"""What a complete official DPT file holds, read off a few of its keys."""

import re
from dataclasses import dataclass
from typing import Dict, Iterable, List, Mapping, Tuple

from torch import Tensor

from .layouts import CheckpointKeyError

Shape = Tuple[int, ...]
_MODEL = 'pretrained.model.'
_STEM = _MODEL + 'patch_embed.backbone.'
_CLASSES = 1000
# what an act_postprocess resamples with: kernel of level 1, 2 and 4
_KERNELS = {1: 4, 2: 2, 4: 3}


@dataclass
class DPTSpec:
    """Kind and sizes of a DPT model.

    Attributes:
        seg (bool): Segmentation instead of depth.
        hybrid (bool): A ResNet makes the patches.
        distilled (bool): With distillation token.
        project (bool): Readout is 'project'.
        aux (bool): With auxiliary output.
        norm (bool): BatchNorm in the residual units.
        unit_bias (bool): Bias in the convolutions of the residual units.
        out_conv (bool): 1x1 convolution in the fusion blocks.
        layers (int): Blocks of the ViT; 0 for a ResNet (MiDaS v2.1).
        width (int): Of the ViT.
        hidden (int): Of its MLPs.
        positions (int): Entries of the position embedding.
        stem (Tuple[int, ...]): Blocks of the stages of a hybrid's ResNet.
        patch (Tuple[int, ...]): Shape of the patch projection's weight.
        levels (Tuple[int, ...]): Channels behind reassemble.
        features (int): Channels of the decoder.
        head (Dict[int, Tuple[int, ...]]): Shapes of ``output_conv.{n}``.
        classes (int): Of the segmentation.
    """

    seg: bool
    hybrid: bool
    distilled: bool
    project: bool
    aux: bool
    norm: bool
    unit_bias: bool
    out_conv: bool
    layers: int
    width: int
    hidden: int
    positions: int
    stem: Tuple[int, ...]
    patch: Shape
    levels: Tuple[int, ...]
    features: int
    head: Dict[int, Shape]

    @property
    def name(self) -> str:
        """str: One line for reports."""
        kind = 'segmentation' if self.seg else 'depth'
        if not self.layers:
            return f'{kind}, ResNet, decoder {self.features}'
        extra = ', distilled' if self.distilled else ''
        family = 'hybrid ViT' if self.hybrid else 'ViT'
        return (
            f'{kind}, {family} of {self.layers} blocks and width '
            f'{self.width}{extra}, decoder {self.features}'
        )


def _count(keys: Iterable[str], pattern: str) -> int:
    found = [re.match(pattern, key) for key in keys]
    return max((int(m.group(1)) + 1 for m in found if m), default=0)


def _shape(state: Mapping[str, Tensor], key: str) -> Shape:
    if key not in state:
        raise CheckpointKeyError(
            f'The DPT model lacks {key} (official name), without which its '
            'size cannot be told. Is the file complete?'
        )
    return tuple(state[key].shape)


def read_spec(state: Mapping[str, Tensor]) -> DPTSpec:
    """Kind and sizes of a model in official names.

    Args:
        state (Mapping[str, Tensor]): Its entries.

    Returns:
        DPTSpec: As far as the keys tell.

    Raises:
        CheckpointKeyError: If a key is missing that is needed for it.
    """

    def has(text: str) -> bool:
        return any(text in key for key in state)

    rn = [_shape(state, f'scratch.layer{i}_rn.weight') for i in range(1, 5)]
    layers = _count(state, r'pretrained\.model\.blocks\.(\d+)\.')
    width = hidden = positions = 0
    patch: Shape = ()
    if layers:
        fc1 = _shape(state, _MODEL + 'blocks.0.mlp.fc1.weight')
        hidden, width = fc1
        positions = _shape(state, _MODEL + 'pos_embed')[1]
        patch = _shape(state, _MODEL + 'patch_embed.proj.weight')
    stages = _count(state, re.escape(_STEM) + r'stages\.(\d+)\.')
    stem = tuple(
        _count(state, re.escape(_STEM) + rf'stages\.{s}\.blocks\.(\d+)\.')
        for s in range(stages)
    )
    seg = has('scratch.output_conv.1.')
    numbers = (0, 4) if seg else (0, 2, 4)
    return DPTSpec(
        seg=seg,
        hybrid=bool(stages),
        distilled=has('dist_token'),
        project=has('.0.project.'),
        aux=has('auxlayer.'),
        norm=has('.resConfUnit2.bn'),
        unit_bias='scratch.refinenet1.resConfUnit2.conv1.bias' in state,
        out_conv=has('.out_conv.'),
        layers=layers,
        width=width,
        hidden=hidden,
        positions=positions,
        stem=stem,
        patch=patch,
        levels=tuple(shape[1] for shape in rn),
        features=rn[0][0],
        head={
            n: _shape(state, f'scratch.output_conv.{n}.weight')
            for n in numbers
        },
    )


class _Shapes(Dict[str, Shape]):
    """Shapes with short ways to add a layer."""

    def pair(self, name: str, *shape: int, bias: bool = True) -> None:
        self[name + '.weight'] = tuple(shape)
        if bias:
            self[name + '.bias'] = tuple(shape[:1])

    def transposed(self, name: str, channels: int, kernel: int) -> None:
        self[name + '.weight'] = (channels, channels, kernel, kernel)
        self[name + '.bias'] = (channels,)

    def batch_norm(self, name: str, channels: int) -> None:
        self.pair(name, channels)
        self[name + '.running_mean'] = (channels,)
        self[name + '.running_var'] = (channels,)
        self[name + '.num_batches_tracked'] = ()


def _stem_shapes(out: _Shapes, depths: Tuple[int, ...], channels: int) -> None:
    out.pair(_STEM + 'stem.conv', 64, channels, 7, 7, bias=False)
    out.pair(_STEM + 'stem.norm', 64)
    previous = 64
    for stage, depth in enumerate(depths):
        outer = 256 * 2**stage
        inner = outer // 4
        for block in range(depth):
            name = f'{_STEM}stages.{stage}.blocks.{block}.'
            if block == 0:
                out.pair(
                    name + 'downsample.conv', outer, previous, 1, 1, bias=False
                )
                out.pair(name + 'downsample.norm', outer)
            sizes = (
                (inner, previous, 1),
                (inner, inner, 3),
                (outer, inner, 1),
            )
            for n, (wide, narrow, kernel) in enumerate(sizes, 1):
                conv = f'{name}conv{n}'
                out.pair(conv, wide, narrow, kernel, kernel, bias=False)
                out.pair(f'{name}norm{n}', wide)
            previous = outer


def _vit_shapes(out: _Shapes, spec: DPTSpec) -> None:
    width = spec.width
    out[_MODEL + 'cls_token'] = (1, 1, width)
    if spec.distilled:
        out[_MODEL + 'dist_token'] = (1, 1, width)
    out[_MODEL + 'pos_embed'] = (1, spec.positions, width)
    if spec.hybrid:
        _stem_shapes(out, spec.stem, 3)
    out.pair(_MODEL + 'patch_embed.proj', width, *spec.patch[1:])
    for i in range(spec.layers):
        block = f'{_MODEL}blocks.{i}.'
        out.pair(block + 'norm1', width)
        out.pair(block + 'attn.qkv', 3 * width, width)
        out.pair(block + 'attn.proj', width, width)
        out.pair(block + 'norm2', width)
        out.pair(block + 'mlp.fc1', spec.hidden, width)
        out.pair(block + 'mlp.fc2', width, spec.hidden)
    out.pair(_MODEL + 'norm', width)
    out.pair(_MODEL + 'head', _CLASSES, width)
    if spec.distilled:
        out.pair(_MODEL + 'head_dist', _CLASSES, width)


def _head_shapes(out: _Shapes, spec: DPTSpec) -> None:
    names = ['scratch.output_conv'] + ['auxlayer'] * (spec.seg and spec.aux)
    for name in names:
        if spec.seg:
            out.pair(f'{name}.0', *spec.head[0], bias=False)
            out.batch_norm(f'{name}.1', spec.head[0][0])
            out.pair(f'{name}.4', *spec.head[4])
        else:
            for n, shape in spec.head.items():
                out.pair(f'{name}.{n}', *shape)


def official_shapes(
    spec: DPTSpec, state: Mapping[str, Tensor]
) -> Dict[str, Shape]:
    """Keys and shapes of a complete official file.

    Args:
        spec (DPTSpec): Kind and sizes.
        state (Mapping[str, Tensor]): The entries there are: the ResNet of
            MiDaS v2.1 is taken as it comes, and an unused classifier of
            another number of classes as well.

    Returns:
        Dict[str, Tuple[int, ...]]: Shape of each entry.
    """
    out = _Shapes()
    if spec.layers:
        _vit_shapes(out, spec)
    else:
        for key, value in state.items():
            if key.startswith('pretrained.layer'):
                out[key] = tuple(value.shape)
    tokens: List[int] = [1, 2, 3, 4]
    if not spec.layers:
        tokens = []
    elif spec.hybrid:
        # the maps of the stem need no reassembling, but the ablation with
        # four layers of the ViT does
        first = 'pretrained.act_postprocess1.3.weight'
        tokens = tokens if first in state else [3, 4]
    for level in tokens:
        channels = spec.levels[level - 1]
        name = f'pretrained.act_postprocess{level}.'
        if spec.project:
            out.pair(name + '0.project.0', spec.width, 2 * spec.width)
        out.pair(name + '3', channels, spec.width, 1, 1)
        if level in _KERNELS:
            out.transposed(name + '4', channels, _KERNELS[level])
    features = spec.features
    for level, channels in enumerate(spec.levels, 1):
        out.pair(
            f'scratch.layer{level}_rn', features, channels, 3, 3, bias=False
        )
        name = f'scratch.refinenet{level}.'
        if spec.out_conv:
            out.pair(name + 'out_conv', features, features, 1, 1)
        for unit in (1, 2):
            for n in (1, 2):
                start = f'{name}resConfUnit{unit}.'
                out.pair(
                    f'{start}conv{n}',
                    *(features, features, 3, 3),
                    bias=spec.unit_bias,
                )
                if spec.norm:
                    out.batch_norm(f'{start}bn{n}', features)
    _head_shapes(out, spec)
    return dict(out)
