import pytest
import torch

import mmdense  # noqa: F401
from mmdense.apis import get_model, list_models, model_config

TINY = {
    'type': 'mmdense.LocalGlobal',
    'backbone': {
        'type': 'mmpretrain.VisionTransformer',
        'arch': {
            'embed_dims': 12,
            'num_layers': 1,
            'num_heads': 2,
            'feedforward_channels': 12,
        },
        'img_size': 32,
        'patch_size': 16,
        'out_type': 'raw',
    },
    'neck': {
        'type': 'mmdense.TokenProjector',
        'in_channels': 12,
        'hid_channels': 8,
        'out_channels': 4,
    },
    'head': {
        'type': 'mmdense.LocalGlobalHead',
        'loss': {'type': 'mmdense.LocalGlobalLoss'},
    },
}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'tiny.py'
    path.write_text(f"default_scope = 'mmdense'\nmodel = {TINY!r}\n")
    return str(path)


def test_get_model__builds_and_changes(config):
    model = get_model(config, neck={'out_channels': 6})
    assert not model.training
    assert model.neck.out_channels == 6
    feats = model.extract_feat(torch.zeros(1, 3, 32, 32))
    assert feats[-1].shape == (1, 5, 12)


def test_get_model__loads_weights(config, tmp_path):
    source = get_model(config)
    torch.save({'state_dict': source.state_dict()}, tmp_path / 'w.pth')
    loaded = get_model(config, pretrained=str(tmp_path / 'w.pth'))
    for a, b in zip(source.parameters(), loaded.parameters()):
        assert torch.equal(a, b)
    torch.save({'other': torch.ones(1)}, tmp_path / 'wrong.pth')
    with pytest.raises(ValueError, match='does not fit'):
        get_model(config, pretrained=str(tmp_path / 'wrong.pth'))


def test_get_model__unreleased_weights_are_named(config):
    with pytest.raises(ValueError, match='No weights are released'):
        get_model(config, pretrained=True)


def test_model_config__by_name_and_near_names():
    names = list_models('local-global_vit-small')
    assert names == sorted(names) and names
    assert model_config(names[0]).model.type == 'mmdense.LocalGlobal'
    with pytest.raises(ValueError, match=names[0][:20]):
        model_config(names[0] + 'x')
    with pytest.raises(ValueError, match='nowhere.py'):
        model_config('nowhere.py')
