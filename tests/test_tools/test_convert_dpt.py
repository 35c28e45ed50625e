import sys

import pytest
import torch
from mmengine.config import Config

from mmdense.apis.convert_dpt import convert_dpt, hf_config
from mmdense.models.backbones import load_backbone
from mmdense.registry import MODELS
from mmdense.testing.launch import ROOT
from mmdense.utils.checkpoint import CheckpointError
from mmdense.utils.checkpoint_keys import CheckpointKeyError
from mmdense.utils.checkpoint_keys.dpt import read_dpt

sys.path.insert(0, str(ROOT / 'tools' / 'model_converters'))

ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)


def _model(hybrid=False):
    backbone = dict(
        type='mmdense.VisionTransformer',
        arch=ARCH,
        img_size=32,
        out_type='tokens',
        out_indices=(0, 1, 2, 3),
        final_norm=False,
    )
    head = dict(
        type='mmdense.DPTDepthHead',
        in_channels=(16,) * 4,
        reassemble_channels=(8, 8, 16, 16),
        channels=16,
        loss_decode=dict(type='mmdense.SILogLoss'),
    )
    if hybrid:
        backbone = dict(
            type='mmdense.HybridVisionTransformer',
            arch=ARCH,
            img_size=32,
            layers=(1, 1, 1),
            out_indices=('stem0', 'stem1', 2, 3),
        )
        head.update(
            in_channels=(256, 512, 16, 16),
            levels=('map', 'map', 'tokens', 'tokens'),
            reassemble_channels=(256, 512, 16, 16),
        )
    cfg = Config(
        dict(
            model=dict(
                type='mmdense.DepthEstimator',
                data_preprocessor=dict(type='mmseg.SegDataPreProcessor'),
                backbone=backbone,
                decode_head=head,
            )
        )
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.2)
    return model.eval()


@pytest.mark.parametrize('hybrid', [False, True])
def test_convert__official_and_back(tmp_path, capsys, hybrid):
    model = _model(hybrid)
    own, official = tmp_path / 'own.pth', tmp_path / 'new' / 'official.pt'
    torch.save({'state_dict': model.state_dict()}, own)
    convert_dpt(str(own), str(official))
    plain = torch.load(official, weights_only=True)
    assert plain['pretrained.model.head.weight'].shape == (1000, 16)
    # what a release may have there comes back as it was
    plain['pretrained.model.head.weight'] += 1
    plain['pretrained.model.norm.weight'] *= 3
    torch.save({'model': plain, 'optimizer': {}}, official)
    again, third = tmp_path / 'again.pth', tmp_path / 'third.pt'
    convert_dpt(str(official), str(again))
    printed = capsys.readouterr().out
    assert 'depth, hybrid' in printed if hybrid else 'depth, ViT' in printed
    assert '100.0% of' in printed and 'official_extra' in printed
    file = torch.load(again, weights_only=True)
    fresh = _model(hybrid)
    fresh.load_state_dict(file['state_dict'], strict=True)
    image = torch.randn(1, 3, 64, 32)
    assert torch.equal(fresh(image), model(image))
    convert_dpt(str(again), str(third))
    end = torch.load(third, weights_only=True)
    assert end.keys() == plain.keys()
    for key, value in plain.items():
        assert torch.equal(end[key], value), key


@pytest.mark.parametrize('hybrid', [False, True])
def test_backbone__of_an_official_file_alone(tmp_path, hybrid):
    model = _model(hybrid)
    own, official = tmp_path / 'own.pth', str(tmp_path / 'official.pt')
    torch.save({'state_dict': model.state_dict()}, own)
    convert_dpt(str(own), official)
    other = _model(hybrid).backbone
    torch.nn.init.zeros_(other.pos_embed)
    coverage = load_backbone(other, official, min_match=1.0)
    assert not coverage.missing
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_convert__too_little_writes_nothing(tmp_path, monkeypatch, capsys):
    import convert_dpt as tool

    state = dict(_model().state_dict())
    del state['decode_head.conv_half.bias']
    source, target = tmp_path / 'a.pth', tmp_path / 'b.pt'
    torch.save(state, source)
    argv = ['convert_dpt.py', str(source), str(target)]
    monkeypatch.setattr(sys, 'argv', argv)
    with pytest.raises(SystemExit, match='Only .* are in the file'):
        tool.main()
    assert 'scratch.output_conv.0.bias' in capsys.readouterr().out
    assert not target.exists()
    monkeypatch.setattr(sys, 'argv', [*argv, '--min-match', '0.9'])
    tool.main()
    assert target.exists()


def test_convert__bad_files(tmp_path):
    whole = tmp_path / 'whole.pth'
    torch.save(dict(_model().state_dict()), whole)
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(whole.read_bytes()[:5000])
    target = str(tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='truncated'):
        convert_dpt(str(cut), target)
    with pytest.raises(CheckpointError, match='No checkpoint'):
        convert_dpt(str(tmp_path / 'none.safetensors'), target)
    with pytest.raises(CheckpointKeyError, match='same file'):
        convert_dpt(str(whole), str(whole))
    with pytest.raises(CheckpointKeyError, match='hf'):
        convert_dpt(str(whole), target, layout='timm')
    with pytest.raises(CheckpointKeyError, match='segmentation models'):
        convert_dpt(str(whole), target, layout='mmseg')


def test_hf_config__of_a_depth_that_has_no_taps():
    dpt = read_dpt(dict(_model().state_dict()))
    with pytest.raises(CheckpointKeyError, match='4'):
        hf_config(dpt.spec)
    dpt.spec.layers = 12
    options = hf_config(dpt.spec)
    assert options['backbone_out_indices'] == [2, 5, 8, 11]
    assert options['neck_hidden_sizes'] == [8, 8, 16, 16]
    assert options['image_size'] == 32
