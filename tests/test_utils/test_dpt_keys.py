import json

import pytest
import torch

from mmdense.testing.launch import ROOT
from mmdense.utils.checkpoint_keys import CheckpointKeyError, CoverageError
from mmdense.utils.checkpoint_keys.dpt import (
    detect_dpt,
    dpt_from_official,
    read_dpt,
    write_dpt,
)

GOLDEN = ROOT / 'tests' / 'data' / 'golden' / 'dpt_keys.json'
KEYS = json.loads(GOLDEN.read_text())
UNIT = 'scratch.refinenet4.resConfUnit1.'


def _official(name, values=False):
    """A file of the real sizes without content, or with a number an entry."""
    state = {}
    for index, (key, shape) in enumerate(KEYS[name]['shapes'].items()):
        state[key] = torch.empty(shape, device='meta')
        if values:
            # expanded: takes no memory
            state[key] = torch.tensor(float(index)).expand(shape)
    return state


def _same(one, two):
    first = [value[(0,) * value.ndim] for value in (one, two)]
    return one.shape == two.shape and torch.equal(*first)


@pytest.mark.parametrize('name', sorted(KEYS))
def test_official__complete_model_is_the_golden_list(name):
    dpt = read_dpt(_official(name))
    ours, coverage = write_dpt(dpt, 'mmdense')
    assert dpt.layout == 'official' and not dpt.unexpected
    assert coverage.share == 1
    assert not coverage.missing and not coverage.unexpected
    assert not any(k.startswith(('pretrained', 'scratch')) for k in ours)
    # a checkpoint that has been trained: no official_extra
    back = read_dpt({'state_dict': ours})
    assert back.layout == 'mmdense' and back.spec == dpt.spec
    again, coverage = write_dpt(back, 'official')
    shapes = {k: list(v.shape) for k, v in again.items()}
    assert shapes == KEYS[name]['shapes']
    assert not coverage.missing and not coverage.unexpected
    assert 'filled with constants' in back.notes[0]


@pytest.mark.parametrize('layout', ['mmdense', 'official', 'hf'])
@pytest.mark.parametrize('name', sorted(KEYS))
def test_layouts__way_there_and_back_is_lossless(name, layout):
    source = _official(name, values=True)
    dpt = read_dpt(source)
    entries, _ = write_dpt(dpt, layout)
    assert detect_dpt(entries) == layout
    back = read_dpt({**entries, 'official_extra': dpt.extra})
    assert not back.unexpected
    found, _ = write_dpt(back, 'official')
    assert found.keys() == source.keys()
    for key, value in source.items():
        assert _same(found[key], value), key


def test_ours__names_of_the_parts():
    source = _official('seg_hybrid', values=True)
    ours, _ = dpt_from_official(source)
    pairs = {
        'backbone.patch_embed.backbone.stages.1.blocks.0.downsample.conv'
        '.weight': 'pretrained.model.patch_embed.backbone.stages.1.blocks.0'
        '.downsample.conv.weight',
        'backbone.layers.7.ffn.layers.1.bias': 'pretrained.model.blocks.7'
        '.mlp.fc2.bias',
        'decode_head.decoder.reassemble.3.resample.weight': 'pretrained'
        '.act_postprocess4.4.weight',
        'decode_head.decoder.lateral.0.weight': 'scratch.layer1_rn.weight',
        'decode_head.decoder.fusion.3.unit1.norm2.running_var': 'scratch'
        '.refinenet1.resConfUnit1.bn2.running_var',
        'decode_head.decoder.fusion.0.project.bias': 'scratch.refinenet4'
        '.out_conv.bias',
        'decode_head.conv_out.bn.weight': 'scratch.output_conv.1.weight',
        'decode_head.aux_seg.bias': 'auxlayer.4.bias',
    }
    for own, official in pairs.items():
        assert _same(ours[own], source[official]), own
    assert not any('fusion.0.unit1' in key for key in ours)


def test_hf__query_key_and_value_are_parts_of_one_matrix():
    source = _official('depth_vitb')
    joint = torch.randn(2304, 768)
    source['pretrained.model.blocks.3.attn.qkv.weight'] = joint
    entries, coverage = write_dpt(read_dpt(source), 'hf')
    start = 'dpt.encoder.layer.3.attention.attention.'
    names = ('query', 'key', 'value')
    parts = [entries[f'{start}{n}.weight'] for n in names]
    assert torch.equal(torch.cat(parts), joint)
    assert coverage.dropped == [
        'pretrained.model.head.weight',
        'pretrained.model.head.bias',
    ]


def test_mmseg__loads_into_the_stock_head():
    from mmseg.models.backbones import VisionTransformer
    from mmseg.models.decode_heads import DPTHead

    width, levels = 16, [8, 8, 16, 16]
    head = DPTHead(
        embed_dims=width,
        post_process_channels=levels,
        channels=8,
        num_classes=5,
        in_channels=(width,) * 4,
        in_index=(0, 1, 2, 3),
        input_transform='multiple_select',
        readout_type='project',
        norm_cfg=dict(type='BN'),
    )
    backbone = VisionTransformer(
        img_size=32,
        embed_dims=width,
        num_layers=4,
        num_heads=2,
        mlp_ratio=2,
        out_indices=(0, 1, 2, 3),
        patch_bias=True,
        final_norm=False,
        output_cls_token=True,
    )
    stock = {f'decode_head.{k}': v for k, v in head.state_dict().items()}
    stock.update(
        {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    )
    dpt = read_dpt({'state_dict': stock})
    assert dpt.layout == 'mmseg' and not dpt.unexpected
    official, coverage = write_dpt(dpt, 'official')
    assert coverage.share == 1 and not coverage.missing
    # the unit without effect is made
    assert UNIT + 'conv1.weight' in official
    again, coverage = write_dpt(read_dpt(official), 'mmseg')
    assert again.keys() == stock.keys()
    for key, value in stock.items():
        assert torch.equal(again[key], value), key
    assert not coverage.missing
    # the default of the stock class
    del stock['backbone.patch_embed.projection.bias']
    dpt = read_dpt({'state_dict': stock})
    assert 'patch_bias' in dpt.notes[0]
    ours, coverage = write_dpt(dpt, 'mmdense')
    assert coverage.share == 1
    assert not ours['backbone.patch_embed.projection.bias'].any()


def test_midas__resnet_of_version_2():
    from mmpretrain.models.backbones import ResNet

    shapes = KEYS['depth_vitb']['shapes']
    resnet = ResNet(18).state_dict()
    source = {}
    for key, value in resnet.items():
        start, _, rest = key.partition('.')
        place = {'conv1': 'layer1.0', 'bn1': 'layer1.1', 'layer1': 'layer1.4'}
        source[f'pretrained.{place.get(start, start)}.{rest}'] = value
    for key, shape in shapes.items():
        if key.startswith('scratch.') and 'out_conv' not in key:
            source[key] = torch.empty(shape, device='meta')
    ours, coverage = dpt_from_official(source)
    assert coverage.share == 1 and not coverage.unexpected
    found = {k[len('backbone.') :] for k in ours if k.startswith('backbone.')}
    assert found == set(resnet)
    assert 'decode_head.decoder.fusion.1.unit1.conv1.bias' in ours


def test_wrapped__parallel_and_optimizer():
    source = _official('depth_vitb')
    wrapped = {f'module.{k}': v for k, v in source.items()}
    dpt = read_dpt({'model': wrapped, 'optimizer': {'state': {}}})
    assert write_dpt(dpt, 'mmdense')[1].share == 1


def test_incomplete__is_reported_with_names():
    source = _official('depth_vitb')
    lost = 'scratch.refinenet2.resConfUnit1.conv1.weight'
    wrong = 'pretrained.act_postprocess1.4.weight'
    del source[lost]
    source[wrong] = torch.empty(96, 96, 3, 3, device='meta')
    source['scratch.more.weight'] = torch.empty(3, device='meta')
    ours, coverage = dpt_from_official(source)
    assert coverage.missing == [
        'decode_head.decoder.fusion.2.unit1.conv1.weight'
    ]
    name = 'decode_head.decoder.reassemble.0.resample.weight'
    assert list(coverage.mismatched) == [name]
    assert '96x96x3x3, wanted 96x96x4x4' in coverage.mismatched[name]
    assert coverage.unexpected == ['scratch.more.weight']
    assert name not in ours
    with pytest.raises(CoverageError):
        coverage.check(1.0)


@pytest.mark.parametrize(
    'state, told',
    [
        ({'blocks.0.attn.qkv.weight': torch.zeros(1)}, 'no DPT model'),
        ({'scratch.layer1_rn.weight': torch.zeros(4, 4, 3, 3)}, 'layer2_rn'),
        ({'epoch': 3}, 'no tensors'),
    ],
)
def test_read__what_is_no_dpt(state, told):
    with pytest.raises(CheckpointKeyError, match=told):
        read_dpt(state)


@pytest.mark.parametrize('name', ['depth_vitb', 'seg_hybrid'])
def test_mmseg__cannot_hold_depth_or_hybrids(name):
    with pytest.raises(CheckpointKeyError, match='segmentation models on'):
        write_dpt(read_dpt(_official(name)), 'mmseg')
