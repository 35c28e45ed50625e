import math

import pytest
import torch
import torch.nn.functional as F

from mmdense.models.backbones import (
    DistilledVisionTransformer,
    HybridVisionTransformer,
    Tokens,
    VisionTransformer,
    load_backbone,
)
from mmdense.models.backbones.resnetv2 import (
    ResNetV2Stem,
    StandardizedConv2d,
    same_padding,
)
from mmdense.utils.checkpoint_keys import CheckpointKeyError, from_canonical

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)


def _hybrid(**kwargs):
    settings = dict(
        arch=ARCH,
        img_size=32,
        layers=(1, 1, 1),
        out_indices=('stem0', 'stem1', 1, 2),
    )
    model = HybridVisionTransformer(**{**settings, **kwargs})
    torch.nn.init.normal_(model.pos_embed)
    return model


def _naive_same(x, weight, stride):
    """One output pixel after the other, zeros where there is no input."""
    kernel, size = weight.shape[-1], x.shape[-1]
    out = math.ceil(size / stride)
    overhang = max((out - 1) * stride + kernel - size, 0)
    start = -(overhang // 2)
    result = x.new_zeros(len(x), len(weight), out, out)
    for i in range(out):
        for j in range(out):
            for a in range(kernel):
                for b in range(kernel):
                    y, z = start + i * stride + a, start + j * stride + b
                    if 0 <= y < size and 0 <= z < size:
                        result[:, :, i, j] += (
                            x[:, :, y, z] @ weight[..., a, b].T
                        )
    return result


@pytest.mark.parametrize('kernel, stride', [(1, 2), (3, 1), (3, 2), (7, 2)])
@pytest.mark.parametrize('size', [7, 8, 9, 10])
def test_standardized_conv__against_loops(kernel, stride, size):
    conv = StandardizedConv2d(2, 3, kernel, stride).double()
    x = torch.randn(1, 2, size, size).double()
    flat = conv.weight.detach().flatten(1)
    mean = flat.sum(1, keepdim=True) / flat.shape[1]
    var = ((flat - mean) ** 2).sum(1, keepdim=True) / flat.shape[1]
    weight = ((flat - mean) / (var.sqrt() + 1e-5)).view_as(conv.weight)
    assert torch.allclose(conv(x), _naive_same(x, weight, stride))


@pytest.mark.parametrize('size', range(32, 66))
def test_same_padding__covers_the_input(size):
    for kernel, stride in ((7, 2), (3, 2), (3, 1), (1, 2)):
        before, after = same_padding(size, kernel, stride)
        assert after - before in (0, 1)
        padded = size + before + after
        assert (padded - kernel) // stride + 1 == math.ceil(size / stride)


def test_stem__block_by_hand():
    stem = ResNetV2Stem((1,)).eval()
    block = stem.stages[0].blocks[0]
    for parameter in stem.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(1, 3, 33, 40)

    def conv(layer, x, padding=0):
        w = layer.weight
        std, mean = torch.std_mean(w.flatten(1), 1, unbiased=False)
        w = (w - mean.view(-1, 1, 1, 1)) / (std.view(-1, 1, 1, 1) + 1e-5)
        return F.conv2d(x, w, padding=padding)

    def norm(layer, x):
        return F.group_norm(x, 32, layer.weight, layer.bias, 1e-5)

    # 33 rows: 3 zeros on both sides; 40 columns: 2 before, 3 behind
    weight = stem.stem.conv.standardized_weight()
    y = F.conv2d(F.pad(x, (2, 3, 3, 3)), weight, stride=2)
    y = norm(stem.stem.norm, y).relu()
    assert y.shape[2:] == (17, 20)
    y = F.max_pool2d(F.pad(y, (0, 1, 1, 1), value=-math.inf), 3, 2)
    shortcut = norm(block.downsample.norm, conv(block.downsample.conv, y))
    z = norm(block.norm1, conv(block.conv1, y)).relu()
    z = norm(block.norm2, conv(block.conv2, z, 1)).relu()
    z = norm(block.norm3, conv(block.conv3, z))
    (found,) = stem(x)
    assert torch.allclose(found, (z + shortcut).relu(), atol=1e-4)


@pytest.mark.parametrize('size', [(32, 32), (64, 96), (33, 50), (16, 16)])
def test_hybrid__shapes_at_any_size(size):
    model = _hybrid()
    first, second, third, fourth = model(torch.randn(2, 3, *size))

    def at(stride):
        return tuple(math.ceil(s / stride) for s in size)

    assert first.shape == (2, 256, *at(4))
    assert second.shape == (2, 512, *at(8))
    for tokens in (third, fourth):
        assert tokens.hw == at(16) and tokens.dist is None
        assert tokens.patches.shape == (2, math.prod(at(16)), 16)
        assert tokens.cls.shape == (2, 16)


def test_hybrid__tokens_are_those_of_a_vit_on_the_third_map():
    model = _hybrid(out_indices=(2, 'stem2', 0), final_norm=True).eval()
    image = torch.randn(1, 3, 48, 32)
    last, feature, first = model(image)
    vit = VisionTransformer(
        ARCH,
        img_size=(2, 2),
        patch_size=1,
        in_channels=1024,
        out_indices=(0, 2),
        out_type='tokens',
        interpolate_mode='bilinear',
    ).eval()
    state = {
        k: v for k, v in model.state_dict().items() if '.backbone.' not in k
    }
    vit.load_state_dict(state)
    wanted = vit(feature)
    for ours, theirs in zip((first, last), wanted):
        assert torch.allclose(ours.patches, theirs.patches, atol=1e-6)
        assert torch.allclose(ours.cls, theirs.cls, atol=1e-6)


def test_hybrid__every_parameter_has_a_gradient():
    model = _hybrid()
    outs = model(torch.randn(2, 3, 32, 32))
    total = sum(
        o.patches.square().sum() + o.cls.square().sum()
        if isinstance(o, Tokens)
        else o.square().sum()
        for o in outs
    )
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_hybrid__checkpointing_keeps_values_and_gradients():
    plain = _hybrid()
    saving = _hybrid(with_cp=True)
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 32, 32)
    for model in (plain, saving):
        model(image)[-1].patches.square().sum().backward()
    for one, two in zip(plain.parameters(), saving.parameters()):
        assert torch.allclose(one.grad, two.grad, rtol=1e-4, atol=1e-6)


def test_hybrid__layer_depth_and_freezing():
    model = _hybrid(frozen_stages=1)
    name = 'backbone.patch_embed.backbone.stages.2.blocks.0.conv1.weight'
    assert model.get_layer_depth(name, 'backbone.') == (0, 5)
    assert model.get_layer_depth(
        'backbone.layers.2.ln1.bias', 'backbone.'
    ) == (
        3,
        5,
    )
    for name, parameter in model.named_parameters():
        frozen = not name.startswith(('layers.1', 'layers.2'))
        assert parameter.requires_grad != frozen, name


@pytest.mark.parametrize(
    'kwargs, told',
    [
        (dict(out_indices=('stem3', 1)), "'stem3'.*'stem2'"),
        (dict(out_indices=('stem0', 'stem0')), 'different'),
        (dict(out_indices=('stem0', 7)), '0 to 2'),
        (dict(layers=(1, 1)), 'three stages'),
        (dict(layers=(1, 0, 1)), 'at least one'),
        (dict(patch_size=8), 'patch_size cannot be set'),
    ],
)
def test_hybrid__bad_options(kwargs, told):
    with pytest.raises(ValueError, match=told):
        _hybrid(**kwargs)


def _distilled(**kwargs):
    settings = dict(
        arch=ARCH,
        img_size=32,
        out_type='tokens',
        out_indices=(0, 2),
        final_norm=False,
    )
    return DistilledVisionTransformer(**{**settings, **kwargs})


def test_distilled__second_token_is_separate():
    model = _distilled()
    model.init_weights()
    assert model.pos_embed.shape == (1, 6, 16)
    assert model.dist_token.std() > 0
    raw = _distilled(out_type='raw')
    raw.load_state_dict(model.state_dict())
    image = torch.randn(2, 3, 32, 64)
    for tokens, whole in zip(model(image), raw(image)):
        assert torch.equal(tokens.cls, whole[:, 0])
        assert torch.equal(tokens.dist, whole[:, 1])
        assert torch.equal(tokens.patches, whole[:, 2:])
        assert tokens.hw == (2, 4)
    model.zero_grad()
    model(image)[-1].patches.square().sum().backward()
    assert model.dist_token.grad.abs().sum() > 0


def test_distilled__as_mmpretrain():
    from mmpretrain.models.backbones import (
        DistilledVisionTransformer as Stock,
    )

    stock = Stock(ARCH, img_size=32, out_type='featmap', final_norm=False)
    stock.init_weights()
    model = _distilled(out_type='featmap', out_indices=-1)
    model.load_state_dict(stock.state_dict())
    image = torch.randn(1, 3, 32, 32)
    assert torch.allclose(model(image)[0], stock(image)[0], atol=1e-6)
    assert model.get_layer_depth('dist_token') == (0, 5)


def test_distilled__frozen_token_and_options():
    model = _distilled(frozen_stages=1)
    assert not model.dist_token.requires_grad
    with pytest.raises(ValueError, match='with_cls_token'):
        _distilled(with_cls_token=False)


def _save(path, model, prefix='', extra=()):
    state = from_canonical(model.state_dict(), 'vit', 'timm')
    state = {prefix + k: v for k, v in state.items()}
    state.update({k: torch.zeros(3, 16) for k in extra})
    torch.save({'model': state}, path)
    return str(path)


@pytest.mark.parametrize(
    'make, prefix, extra',
    [
        (_hybrid, '', ['head.weight', 'norm.bias']),
        (_hybrid, 'pretrained.model.', ['scratch.layer1_rn.weight']),
        (_distilled, '', ['head.weight', 'head_dist.weight']),
    ],
)
def test_load_backbone__timm_and_dpt_files(tmp_path, make, prefix, extra):
    source, target = make(), make(img_size=64)
    path = _save(tmp_path / 'x.pth', source, prefix, extra)
    coverage = load_backbone(target, path, min_match=1)
    assert set(coverage.resized) == {'pos_embed'}
    for name, value in source.state_dict().items():
        if name != 'pos_embed':
            assert torch.equal(target.state_dict()[name], value), name
    extra = target.num_extra_tokens
    assert torch.equal(
        target.pos_embed[:, :extra], source.pos_embed[:, :extra]
    )


def test_load_backbone__other_kind_of_vit_is_refused(tmp_path):
    plain = VisionTransformer(ARCH, img_size=32, final_norm=False)
    hybrid = _save(tmp_path / 'hybrid.pth', _hybrid())
    distilled = _save(tmp_path / 'distilled.pth', _distilled())
    for path, name in ((hybrid, 'Hybrid'), (distilled, 'Distilled')):
        with pytest.raises(CheckpointKeyError, match=f'mmdense.{name}'):
            load_backbone(plain, path)
    path = _save(tmp_path / 'plain.pth', plain)
    with pytest.raises(CheckpointKeyError, match='file of a hybrid'):
        load_backbone(_hybrid(), path)
    # a plain DeiT is a start for a distilled one
    coverage = load_backbone(_distilled(), path)
    assert coverage.missing == ['dist_token']
    with pytest.raises(CheckpointKeyError, match='mmseg.*distillation'):
        from_canonical(_distilled().state_dict(), 'vit', 'mmseg')
