"""Tables of the key names of DPT models, each against the official ones."""

import re
from functools import cache
from typing import Optional, Pattern, Tuple

DPT_LAYOUTS = ('mmdense', 'official', 'mmseg', 'hf')
_LEVELS = 4
# In a template: i level, fine to coarse from 0; l = i + 1; j = 3 - i; other
# letters are numbers, p is the rest of the key.
Table = Tuple[Tuple[str, str], ...]

_MODEL = 'pretrained.model.'
_HEAD = 'decode_head.'
_UNIT = 'scratch.refinenet{l}.resConfUnit{u}.'

_OURS: Table = (
    ('backbone.cls_token', _MODEL + 'cls_token'),
    ('backbone.dist_token', _MODEL + 'dist_token'),
    ('backbone.pos_embed', _MODEL + 'pos_embed'),
    ('backbone.patch_embed.projection.{p}', _MODEL + 'patch_embed.proj.{p}'),
    (
        'backbone.patch_embed.backbone.{p}',
        _MODEL + 'patch_embed.backbone.{p}',
    ),
    # where a backbone has a final norm, which DPT does not use
    ('backbone.ln1.{p}', _MODEL + 'norm.{p}'),
    ('backbone.layers.{k}.ln{n}.{p}', _MODEL + 'blocks.{k}.norm{n}.{p}'),
    (
        'backbone.layers.{k}.ffn.layers.0.0.{p}',
        _MODEL + 'blocks.{k}.mlp.fc1.{p}',
    ),
    (
        'backbone.layers.{k}.ffn.layers.1.{p}',
        _MODEL + 'blocks.{k}.mlp.fc2.{p}',
    ),
    ('backbone.layers.{k}.attn.{p}', _MODEL + 'blocks.{k}.attn.{p}'),
    ('backbone.conv1.{p}', 'pretrained.layer1.0.{p}'),
    ('backbone.bn1.{p}', 'pretrained.layer1.1.{p}'),
    ('backbone.layer1.{p}', 'pretrained.layer1.4.{p}'),
    ('backbone.layer{m}.{p}', 'pretrained.layer{m}.{p}'),
    (
        _HEAD + 'decoder.reassemble.{i}.readout.{p}',
        'pretrained.act_postprocess{l}.0.project.0.{p}',
    ),
    (
        _HEAD + 'decoder.reassemble.{i}.project.{p}',
        'pretrained.act_postprocess{l}.3.{p}',
    ),
    (
        _HEAD + 'decoder.reassemble.{i}.resample.{p}',
        'pretrained.act_postprocess{l}.4.{p}',
    ),
    (_HEAD + 'decoder.lateral.{i}.{p}', 'scratch.layer{l}_rn.{p}'),
    (
        _HEAD + 'decoder.fusion.{j}.project.{p}',
        'scratch.refinenet{l}.out_conv.{p}',
    ),
    (_HEAD + 'decoder.fusion.{j}.unit{u}.conv{n}.{p}', _UNIT + 'conv{n}.{p}'),
    (_HEAD + 'decoder.fusion.{j}.unit{u}.norm{n}.{p}', _UNIT + 'bn{n}.{p}'),
)
_OURS_DEPTH: Table = (
    (_HEAD + 'conv_half.{p}', 'scratch.output_conv.0.{p}'),
    (_HEAD + 'conv_full.{p}', 'scratch.output_conv.2.{p}'),
    (_HEAD + 'conv_depth.{p}', 'scratch.output_conv.4.{p}'),
)
_OURS_SEG: Table = (
    (_HEAD + 'conv_out.conv.{p}', 'scratch.output_conv.0.{p}'),
    (_HEAD + 'conv_out.bn.{p}', 'scratch.output_conv.1.{p}'),
    (_HEAD + 'conv_seg.{p}', 'scratch.output_conv.4.{p}'),
    (_HEAD + 'aux_out.conv.{p}', 'auxlayer.0.{p}'),
    (_HEAD + 'aux_out.bn.{p}', 'auxlayer.1.{p}'),
    (_HEAD + 'aux_seg.{p}', 'auxlayer.4.{p}'),
)
_BIT = 'dpt.embeddings.backbone.bit.'
_STEM = _MODEL + 'patch_embed.backbone.'
_LAYER = 'dpt.encoder.layer.{k}.'
_BLOCK = _MODEL + 'blocks.{k}.'
_NECK = 'neck.reassemble_stage.'
_FUSION = 'neck.fusion_stage.layers.{j}.'
_HF: Table = (
    ('dpt.embeddings.cls_token', _MODEL + 'cls_token'),
    ('dpt.embeddings.position_embeddings', _MODEL + 'pos_embed'),
    (_BIT + 'embedder.convolution.{p}', _STEM + 'stem.conv.{p}'),
    (_BIT + 'embedder.norm.{p}', _STEM + 'stem.norm.{p}'),
    (
        _BIT + 'encoder.stages.{s}.layers.{b}.{p}',
        _STEM + 'stages.{s}.blocks.{b}.{p}',
    ),
    # joined with key and value, see _join
    (_LAYER + 'attention.attention.query.{p}', _BLOCK + 'attn.query.{p}'),
    (_LAYER + 'attention.attention.key.{p}', _BLOCK + 'attn.key.{p}'),
    (_LAYER + 'attention.attention.value.{p}', _BLOCK + 'attn.value.{p}'),
    (_LAYER + 'attention.output.dense.{p}', _BLOCK + 'attn.proj.{p}'),
    (_LAYER + 'intermediate.dense.{p}', _BLOCK + 'mlp.fc1.{p}'),
    (_LAYER + 'output.dense.{p}', _BLOCK + 'mlp.fc2.{p}'),
    (_LAYER + 'layernorm_before.{p}', _BLOCK + 'norm1.{p}'),
    (_LAYER + 'layernorm_after.{p}', _BLOCK + 'norm2.{p}'),
    ('dpt.layernorm.{p}', _MODEL + 'norm.{p}'),
    (
        _NECK + 'readout_projects.{i}.0.{p}',
        'pretrained.act_postprocess{l}.0.project.0.{p}',
    ),
    (
        _NECK + 'layers.{i}.projection.{p}',
        'pretrained.act_postprocess{l}.3.{p}',
    ),
    (_NECK + 'layers.{i}.resize.{p}', 'pretrained.act_postprocess{l}.4.{p}'),
    ('neck.convs.{i}.{p}', 'scratch.layer{l}_rn.{p}'),
    (_FUSION + 'projection.{p}', 'scratch.refinenet{l}.out_conv.{p}'),
    (_FUSION + 'residual_layer{u}.convolution{n}.{p}', _UNIT + 'conv{n}.{p}'),
    (_FUSION + 'residual_layer{u}.batch_norm{n}.{p}', _UNIT + 'bn{n}.{p}'),
    ('head.head.{n}.{p}', 'scratch.output_conv.{n}.{p}'),
    ('auxiliary_head.head.{n}.{p}', 'auxlayer.{n}.{p}'),
)
_HF_PATCH: Table = (
    (
        'dpt.embeddings.patch_embeddings.projection.{p}',
        _MODEL + 'patch_embed.proj.{p}',
    ),
)
_HF_HYBRID: Table = (
    ('dpt.embeddings.projection.{p}', _MODEL + 'patch_embed.proj.{p}'),
)
_MMSEG: Table = (
    (
        'backbone.layers.{k}.attn.attn.in_proj_{p}',
        _MODEL + 'blocks.{k}.attn.qkv.{p}',
    ),
    (
        'backbone.layers.{k}.attn.attn.out_proj.{p}',
        _MODEL + 'blocks.{k}.attn.proj.{p}',
    ),
    *(
        row
        for row in _OURS
        if row[0].startswith('backbone.')
        and '.attn.' not in row[0]
        and 'dist_token' not in row[0]
    ),
    (
        _HEAD + 'reassemble_blocks.readout_projects.{i}.0.{p}',
        'pretrained.act_postprocess{l}.0.project.0.{p}',
    ),
    (
        _HEAD + 'reassemble_blocks.projects.{i}.conv.{p}',
        'pretrained.act_postprocess{l}.3.{p}',
    ),
    (
        _HEAD + 'reassemble_blocks.resize_layers.{i}.{p}',
        'pretrained.act_postprocess{l}.4.{p}',
    ),
    (_HEAD + 'convs.{i}.conv.{p}', 'scratch.layer{l}_rn.{p}'),
    (
        _HEAD + 'fusion_blocks.{j}.project.conv.{p}',
        'scratch.refinenet{l}.out_conv.{p}',
    ),
    (
        _HEAD + 'fusion_blocks.{j}.res_conv_unit{u}.conv{n}.conv.{p}',
        _UNIT + 'conv{n}.{p}',
    ),
    (
        _HEAD + 'fusion_blocks.{j}.res_conv_unit{u}.conv{n}.bn.{p}',
        _UNIT + 'bn{n}.{p}',
    ),
    (_HEAD + 'project.conv.{p}', 'scratch.output_conv.0.{p}'),
    (_HEAD + 'project.bn.{p}', 'scratch.output_conv.1.{p}'),
    (_HEAD + 'conv_seg.{p}', 'scratch.output_conv.4.{p}'),
)


@cache
def _regex(template: str) -> Pattern[str]:
    text = re.escape(template).replace(r'\{', '{').replace(r'\}', '}')
    text = text.replace('{p}', '(?P<p>.+)')
    return re.compile(re.sub(r'\{(\w)\}', r'(?P<\1>\\d+)', text) + '$')


def rename(key: str, table: Table, to_official: bool) -> Optional[str]:
    """Name of one entry on the other side of a table.

    Args:
        key (str): Its name on this side.
        table (tuple): Rows of a layout's and the official template.
        to_official (bool): Whether the key is the layout's.

    Returns:
        str or None: The other name; None if no row fits.
    """
    for row in table:
        source, target = row if to_official else row[::-1]
        match = _regex(source).match(key)
        if match is None:
            continue
        values = match.groupdict()
        if 'l' in values:
            values['i'] = str(int(values['l']) - 1)
        elif 'j' in values:
            values['i'] = str(_LEVELS - 1 - int(values['j']))
        if 'i' in values:
            level = int(values['i'])
            values['l'] = str(level + 1)
            values['j'] = str(_LEVELS - 1 - level)
        return target.format(**values)
    return None


def table_of(layout: str, seg: bool, hybrid: bool) -> Table:
    """Table of a layout against the official names.

    Args:
        layout (str): ``'mmdense'``, ``'hf'`` or ``'mmseg'``.
        seg (bool): Of segmentation models, whose heads are named alike.
        hybrid (bool): Of hybrid models.

    Returns:
        tuple: Rows of two templates.
    """
    if layout == 'mmdense':
        return _OURS + (_OURS_SEG if seg else _OURS_DEPTH)
    if layout == 'hf':
        return _HF + (_HF_HYBRID if hybrid else _HF_PATCH)
    return _MMSEG
