import copy

import pytest
import torch

from mmdense.models.backbones import Tokens, VisionTransformer
from mmdense.registry import MODELS
from mmdense.utils.position import resize_pos_embed

StockViT = MODELS.get('mmpretrain.VisionTransformer')
ARCH = {
    'embed_dims': 24,
    'num_layers': 3,
    'num_heads': 3,
    'feedforward_channels': 48,
}


def _vit(**kwargs):
    torch.manual_seed(0)
    kwargs = {'arch': ARCH, 'img_size': 32, 'patch_size': 8, **kwargs}
    model = VisionTransformer(**kwargs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    return model.eval()


def _blocks(model, image):
    """Outputs of all blocks before any final norm, by hand."""
    x, hw = model.patch_embed(image)
    if model.cls_token is not None:
        x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], 1)
    x = x + resize_pos_embed(
        model.pos_embed,
        model.patch_resolution,
        hw,
        num_extra_tokens=model.num_extra_tokens,
    )
    outs = []
    for layer in model.layers:
        x = layer(x)
        outs.append(x)
    return outs, hw


@pytest.mark.parametrize(
    'out_type', ['cls_token', 'featmap', 'raw', 'avg_featmap']
)
@pytest.mark.parametrize('size', [(32, 32), (40, 24), (33, 50)])
def test_forward__equals_stock(out_type, size):
    kwargs = {'out_type': out_type, 'out_indices': [0, 2]}
    ours = _vit(**kwargs)
    stock = StockViT(ARCH, img_size=32, patch_size=8, **kwargs)
    stock.eval()
    stock.load_state_dict(ours.state_dict(), strict=True)
    image = torch.randn(2, 3, *size)
    for got, wanted in zip(ours(image), stock(image)):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize('with_cls_token', [True, False])
@pytest.mark.parametrize('final_norm', [True, False])
@pytest.mark.parametrize('norm_taps', ['last', 'all'])
def test_forward__tokens(with_cls_token, final_norm, norm_taps):
    model = _vit(
        out_type='tokens',
        out_indices=(-1, 0),
        with_cls_token=with_cls_token,
        final_norm=final_norm,
        norm_taps=norm_taps,
    )
    image = torch.randn(2, 3, 40, 24)
    blocks, hw = _blocks(model, image)
    last, first = model(image)
    if final_norm:
        blocks[2] = model.ln1(blocks[2])
        if norm_taps == 'all':
            blocks[0] = model.ln1(blocks[0])
    extra = int(with_cls_token)
    for tokens, wanted in ((last, blocks[2]), (first, blocks[0])):
        assert isinstance(tokens, Tokens) and tokens.hw == (5, 3) == hw
        torch.testing.assert_close(tokens.patches, wanted[:, extra:])
        if with_cls_token:
            torch.testing.assert_close(tokens.cls, wanted[:, 0])
        else:
            assert tokens.cls is None
        # token n is row n // W, column n % W
        assert torch.equal(
            tokens.featmap[:, :, 3, 1], tokens.patches[:, 3 * 3 + 1]
        )


def test_forward__selfpatch_has_no_class_token_and_no_norm():
    model = _vit(with_cls_token=False, final_norm=False, out_type='raw')
    names = set(model.state_dict())
    assert 'cls_token' not in names and 'ln1.weight' not in names
    assert model.pos_embed.shape == (1, 16, 24)
    assert model(torch.randn(1, 3, 32, 32))[0].shape == (1, 16, 24)


def test_forward__floor_and_pad():
    image = torch.randn(1, 3, 35, 29)
    assert _vit(out_type='tokens')(image)[0].hw == (5, 4)
    floor = _vit(out_type='tokens', patch_cfg={'padding': 0})
    assert floor(image)[0].hw == (4, 3)
    torch.testing.assert_close(
        floor(image)[0].patches, floor(image[:, :, :32, :24])[0].patches
    )


def test_forward__non_square_img_size():
    model = _vit(img_size=(16, 48), out_type='featmap')
    assert model.pos_embed.shape[1] == 1 + 2 * 6
    assert model(torch.randn(1, 3, 16, 48))[0].shape[2:] == (2, 6)
    assert model(torch.randn(1, 3, 48, 16))[0].shape[2:] == (6, 2)


@pytest.mark.parametrize('rule', ['size', 'scale'])
def test_position_embedding__rule(rule):
    model = _vit(pos_embed_rule=rule, interpolate_mode='bilinear')
    got = model.position_embedding((6, 9))
    wanted = resize_pos_embed(
        model.pos_embed, (4, 4), (6, 9), 'bilinear', rule
    )
    assert torch.equal(got, wanted)
    assert model.position_embedding((4, 4)) is model.pos_embed


@pytest.mark.parametrize(
    'indices, wanted',
    [(-1, [2]), ((-3, -1), [0, 2]), ([2, 0], [2, 0]), (1, [1])],
)
def test_out_indices__forms(indices, wanted):
    model = _vit(out_indices=indices, out_type='raw')
    assert list(model.out_indices) == wanted
    assert len(model(torch.randn(1, 3, 32, 32))) == len(wanted)


@pytest.mark.parametrize('indices', [3, -4, (0, 0), ()])
def test_out_indices__wrong(indices):
    with pytest.raises(ValueError, match='out_indices'):
        _vit(out_indices=indices)


@pytest.mark.parametrize(
    'name, value',
    [
        ('arch', 'deit-smal'),
        ('arch', {'embed_dims': 24, 'num_layers': 2}),
        ('out_type', 'map'),
        ('norm_taps', 'some'),
        ('pos_embed_rule', 'dino'),
        ('interpolate_mode', 'area'),
    ],
)
def test_init__unknown_option_names_choices(name, value):
    with pytest.raises(ValueError, match=name):
        _vit(**{name: value})


def test_forward__bad_input_says_shape():
    model = _vit(patch_cfg={'padding': 0})
    with pytest.raises(ValueError, match=r'\(1, 3, 4, 32\)'):
        model(torch.randn(1, 3, 4, 32))


@pytest.mark.parametrize('layer', [0, -1])
def test_attention_maps__reproduce_the_layer(layer):
    model = _vit(out_type='raw', out_indices=[0, 1, 2], final_norm=False)
    image = torch.randn(2, 3, 32, 24)
    weights = model.attention_maps(image, layer)
    assert weights.shape == (2, 3, 13, 13)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 13))
    # the fused attention of the layer must be these weights times V
    blocks, _ = _blocks(model, image)
    embedded, _ = model._embed(image)
    before = embedded if layer == 0 else blocks[layer - 1]
    block = model.layers[layer]
    normed = block.ln1(before)
    value = block.attn.qkv(normed)[..., 48:].reshape(2, 13, 3, 8)
    mixed = torch.einsum('bhqk,bkhd->bqhd', weights, value).flatten(2)
    wanted = block.attn(normed)
    torch.testing.assert_close(
        block.attn.proj(mixed), wanted, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize('drop_path_rate', [0.0, 0.5])
def test_with_cp__same_gradients(drop_path_rate):
    plain = _vit(out_type='raw', drop_path_rate=drop_path_rate).train()
    recompute = copy.deepcopy(plain)
    recompute.with_cp = True
    image = torch.randn(2, 3, 32, 32)
    for model in (plain, recompute):
        torch.manual_seed(1)
        model(image)[0].square().mean().backward()
    for one, two in zip(plain.parameters(), recompute.parameters()):
        torch.testing.assert_close(one.grad, two.grad)


def test_autocast__close_to_fp32():
    model = _vit(out_type='tokens')
    image = torch.randn(2, 3, 40, 24)
    wanted = model(image)[0].patches
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = model(image)[0].patches
        weights = model.attention_maps(image)
    assert weights.dtype == torch.float32
    assert torch.isfinite(got).all()
    assert (got.float() - wanted).abs().max() < 0.1 * wanted.abs().max()


def test_train__returns_self_and_keeps_frozen_layers_in_eval():
    model = _vit(frozen_stages=2, drop_path_rate=0.2)
    assert model.train() is model and model.eval() is model
    model.train()
    assert [layer.training for layer in model.layers] == [False, False, True]
    assert not model.pos_embed.requires_grad


def test_arch_zoo__is_our_own():
    stock = dict(StockViT.arch_zoo)
    model = VisionTransformer('mocov3-small', img_size=32)
    assert model.layers[0].attn.num_heads == 12
    assert VisionTransformer.arch_zoo is not StockViT.arch_zoo
    assert StockViT.arch_zoo == stock


@pytest.mark.parametrize('source', [(4, 4), (8, 8), (3, 3)])
@pytest.mark.parametrize('cls', [True, False])
@pytest.mark.parametrize('target', [32, (16, 48)])
def test_load__resizes_positions(source, cls, target):
    old = _vit(img_size=tuple(8 * s for s in source))
    new = _vit(img_size=target, with_cls_token=cls, out_type='raw')
    result = new.load_state_dict(old.state_dict(), strict=False)
    grid = new.patch_resolution
    wanted = resize_pos_embed(old.pos_embed, source, grid)
    assert torch.equal(new.pos_embed, wanted[:, 0 if cls else 1 :])
    assert result.missing_keys == []
    assert result.unexpected_keys == ([] if cls else ['cls_token'])


def test_load__non_square_of_other_size():
    old = _vit(img_size=(16, 48))
    new = _vit(img_size=(32, 96))
    new.load_state_dict(old.state_dict())
    wanted = resize_pos_embed(old.pos_embed, (2, 6), (4, 12))
    assert torch.equal(new.pos_embed, wanted)


def test_load__deepcopy_uses_its_own_grid():
    model = copy.deepcopy(_vit())
    state = _vit(img_size=64).state_dict()
    model.load_state_dict(state)
    assert model.pos_embed.shape == (1, 17, 24)


def test_init_weights__init_std():
    model = VisionTransformer(ARCH, img_size=32, patch_size=8, init_std=0.02)
    model.init_weights()
    weight = model.layers[0].ffn.layers[0][0].weight
    assert abs(weight.std().item() - 0.02) < 0.002
    assert model.layers[0].attn.qkv.bias.abs().max() == 0
    assert model.cls_token.std() > 0.005 and model.pos_embed.std() > 0.005


@pytest.mark.parametrize(
    'name, depth',
    [
        ('backbone.cls_token', 0),
        ('backbone.pos_embed', 0),
        ('backbone.patch_embed.projection.weight', 0),
        ('backbone.pre_norm.weight', 0),
        ('backbone.layers.0.ln1.weight', 1),
        ('backbone.layers.2.ffn.layers.1.bias', 3),
        ('backbone.ln1.weight', 4),
        ('decode_head.conv_seg.weight', 4),
    ],
)
def test_get_layer_depth__cases(name, depth):
    assert _vit().get_layer_depth(name, prefix='backbone.') == (depth, 5)


def test_registry__builds_from_foreign_scope():
    model = MODELS.build(
        {
            'type': 'mmdense.VisionTransformer',
            'arch': ARCH,
            'img_size': 32,
            'patch_size': 8,
        }
    )
    assert isinstance(model, VisionTransformer)


def test_trace__static_size():
    model = _vit(out_type='featmap', out_indices=(0, 2))
    image = torch.randn(1, 3, 32, 32)
    traced = torch.jit.trace(model, image, check_trace=False)
    for got, wanted in zip(traced(image), model(image)):
        torch.testing.assert_close(got, wanted)


@pytest.mark.gpu
def test_gpu__matches_cpu():
    if not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    model = _vit(out_type='tokens', with_cp=True)
    image = torch.randn(2, 3, 40, 24)
    wanted = model(image)[0]
    got = model.cuda()(image.cuda())[0]
    torch.testing.assert_close(
        got.patches.cpu(), wanted.patches, atol=1e-4, rtol=1e-3
    )
    with torch.autocast('cuda', dtype=torch.bfloat16):
        model.train()(image.cuda())[0].patches.float().mean().backward()
    assert torch.isfinite(model.pos_embed.grad).all()
