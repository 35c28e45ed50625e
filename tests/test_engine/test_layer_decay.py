import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmdense.engine.optimizers import LayerDecayOptimWrapperConstructor
from mmdense.models.backbones import SwinTransformer, VisionTransformer

ARCH = {
    'embed_dims': 12,
    'num_layers': 3,
    'num_heads': 3,
    'feedforward_channels': 24,
}
PARAMWISE = {
    'layer_decay_rate': 0.5,
    'norm_decay_mult': 0.0,
    'bias_decay_mult': 0.0,
    'flat_decay_mult': 0.0,
    'custom_keys': {
        'pos_embed': {'decay_mult': 0.0},
        'cls_token': {'decay_mult': 0.0},
    },
}


class _Segmentor(nn.Module):
    """As an mmseg model: no get_layer_depth of its own."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.decode_head = nn.Conv2d(12, 3, 1)


class DistributedDataParallel(nn.Module):
    """Wrapper with the attribute that mmengine unwraps."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def _vit():
    return VisionTransformer(ARCH, img_size=16, patch_size=8)


def _swin():
    return SwinTransformer(
        {'embed_dims': 8, 'depths': [2, 2], 'num_heads': [2, 4]},
        img_size=16,
        window_size=2,
        use_abs_pos_embed=True,
        out_indices=(0, 1),
    )


def _settings(model, paramwise=None, lr=1.0, weight_decay=0.1):
    """Learning rate and weight decay of each parameter by name."""
    wrapper = build_optim_wrapper(
        model,
        {
            'type': 'OptimWrapper',
            'optimizer': {
                'type': 'AdamW',
                'lr': lr,
                'weight_decay': weight_decay,
            },
            'constructor': 'mmdense.LayerDecayOptimWrapperConstructor',
            'paramwise_cfg': dict(paramwise or PARAMWISE),
        },
    )
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            name = names[id(parameter)]
            assert name not in found
            found[name] = (group['lr'], group['weight_decay'])
    return found, wrapper


VIT_RATES = {
    # L = 3: block i gets r^(3 - i), embeddings r^4
    'backbone.patch_embed.projection.weight': 0.0625,
    'backbone.patch_embed.projection.bias': 0.0625,
    'backbone.cls_token': 0.0625,
    'backbone.pos_embed': 0.0625,
    'backbone.layers.0.attn.qkv.weight': 0.125,
    'backbone.layers.1.ln1.weight': 0.25,
    'backbone.layers.2.ffn.layers.1.weight': 0.5,
    'backbone.ln1.weight': 1.0,
    'decode_head.weight': 1.0,
    'decode_head.bias': 1.0,
}
SWIN_RATES = {
    # L = 4 blocks over two stages: embeddings r^5
    'backbone.patch_embed.projection.weight': 1 / 32,
    'backbone.absolute_pos_embed': 1 / 32,
    'backbone.stages.0.blocks.0.attn.w_msa.qkv.weight': 1 / 16,
    'backbone.stages.0.blocks.1.ffn.layers.1.bias': 1 / 8,
    'backbone.stages.0.downsample.reduction.weight': 1 / 8,
    'backbone.stages.1.blocks.0.norm1.weight': 1 / 4,
    'backbone.stages.1.blocks.1.norm1.weight': 1 / 2,
    'backbone.norm0.weight': 1.0,
    'backbone.norm1.weight': 1.0,
    'decode_head.weight': 1.0,
}


@pytest.mark.parametrize(
    'backbone, rates', [(_vit, VIT_RATES), (_swin, SWIN_RATES)]
)
def test_rates__inside_a_segmentor(backbone, rates):
    model = _Segmentor(backbone())
    found, wrapper = _settings(model)
    assert set(found) == {n for n, _ in model.named_parameters()}
    assert {n: found[n][0] for n in rates} == pytest.approx(rates)
    # equal settings share a group: at most decayed and not per depth
    assert len(wrapper.optimizer.param_groups) <= 2 * len(set(rates.values()))


def test_weight_decay__by_paramwise_cfg():
    found, _ = _settings(_Segmentor(_vit()))
    for name, (_, decay) in found.items():
        plain = name.endswith('weight') and '.ln' not in name
        assert decay == (0.1 if plain else 0.0), name


def test_custom_keys__lr_mult_multiplies():
    keys = {'layers.1.attn': {'lr_mult': 10.0}}
    found, _ = _settings(
        _Segmentor(_vit()), {'layer_decay_rate': 0.5, 'custom_keys': keys}
    )
    assert found['backbone.layers.1.attn.qkv.weight'][0] == 2.5
    assert found['backbone.layers.1.ffn.layers.1.weight'][0] == 0.25


@pytest.mark.parametrize('where', ['model', 'backbone', 'bare'])
def test_wrappers__looked_through(where):
    if where == 'bare':
        model, prefix = _vit(), ''
    else:
        model, prefix = _Segmentor(_vit()), 'backbone.'
    if where == 'model':
        model = DistributedDataParallel(model)
        prefix = 'module.backbone.'
    elif where == 'backbone':
        from mmengine.registry import MODEL_WRAPPERS

        MODEL_WRAPPERS.register_module(
            name='TestWrapper', module=DistributedDataParallel, force=True
        )
        model.backbone = DistributedDataParallel(model.backbone)
        prefix = 'backbone.module.'
    found, _ = _settings(model)
    assert found[prefix + 'cls_token'][0] == 0.0625
    assert found[prefix + 'layers.2.attn.qkv.weight'][0] == 0.5


def test_frozen__left_out():
    model = _Segmentor(_vit())
    for parameter in model.backbone.layers[0].parameters():
        parameter.requires_grad = False
    found, _ = _settings(model)
    assert not any(name.startswith('backbone.layers.0.') for name in found)
    assert found['backbone.layers.1.attn.qkv.weight'][0] == 0.25


def test_step__moves_layers_in_proportion():
    model = _vit()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    _, wrapper = _settings(model, weight_decay=0.0, lr=1e-3)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    wrapper.step()
    for name, rate in (('cls_token', 0.0625), ('ln1.weight', 1.0)):
        moved = (before[name] - dict(model.named_parameters())[name]).mean()
        assert moved.item() == pytest.approx(rate * 1e-3, rel=1e-3)


@pytest.mark.parametrize('rate', [None, 0, 1.5, 'half'])
def test_init__wrong_rate(rate):
    with pytest.raises(ValueError, match='layer_decay_rate'):
        LayerDecayOptimWrapperConstructor(
            {'optimizer': {'type': 'SGD', 'lr': 1.0}},
            {'layer_decay_rate': rate},
        )


def test_init__no_lr():
    with pytest.raises(ValueError, match='lr'):
        LayerDecayOptimWrapperConstructor(
            {'optimizer': {'type': 'AdamW'}}, {'layer_decay_rate': 0.5}
        )


def test_backbone__without_depth():
    with pytest.raises(TypeError, match='Conv2d.*mmdense.VisionTransformer'):
        _settings(_Segmentor(nn.Conv2d(1, 1, 1)))
