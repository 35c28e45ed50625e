import copy
import logging
import warnings

import pytest
import torch
from mmengine.logging import MMLogger

from mmdense.models.backbones import SwinTransformer
from mmdense.models.backbones.swin_transformer import (
    crop_table,
    relative_position_index,
)
from mmdense.registry import MODELS
from mmdense.utils.position import resize_rel_pos_table

StockSwin = MODELS.get('mmpretrain.SwinTransformer')
ARCH = {'embed_dims': 8, 'depths': [2, 2], 'num_heads': [2, 4]}
TABLE = 'stages.0.blocks.1.attn.w_msa.relative_position_bias_table'


def _swin(**kwargs):
    torch.manual_seed(0)
    kwargs = {
        'arch': ARCH,
        'img_size': 32,
        'window_size': 4,
        'out_indices': (0, 1),
        **kwargs,
    }
    model = SwinTransformer(**kwargs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval()


@pytest.mark.parametrize('size', [(32, 32), (48, 36), (33, 50)])
@pytest.mark.parametrize('pad_small_map', [True, False])
def test_forward__equals_stock(size, pad_small_map):
    ours = _swin(pad_small_map=pad_small_map)
    stock = StockSwin(
        ARCH,
        img_size=32,
        window_size=4,
        out_indices=(0, 1),
        pad_small_map=pad_small_map,
    )
    stock.eval()
    stock.load_state_dict(ours.state_dict(), strict=True)
    image = torch.randn(2, 3, *size)
    for got, wanted in zip(ours(image), stock(image)):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize('window', [1, 2, 3, 7])
def test_relative_position_index__plain_loop(window):
    index = relative_position_index(window)
    for i in range(window * window):
        for j in range(window * window):
            dy, dx = i // window - j // window, i % window - j % window
            row = (dy + window - 1) * (2 * window - 1) + dx + window - 1
            assert index[i, j] == row


def test_crop_table__offsets_stay():
    table = torch.randn(7 * 7, 3)  # window 4
    bias = crop_table(table, 4, 2)
    for i in range(4):
        for j in range(4):
            dy, dx = i // 2 - j // 2, i % 2 - j % 2
            row = (dy + 3) * 7 + dx + 3
            assert torch.equal(bias[:, i, j], table[row])


@pytest.mark.parametrize('size', [(16, 16), (8, 16), (12, 20)])
def test_forward__small_map_shrinks_the_window(size):
    model = _swin(window_size=7, out_indices=(1,))
    image = torch.randn(1, 3, *size)
    got = model(image)[0]
    assert got.shape[2:] == tuple(-(-s // 8) for s in size)
    assert torch.isfinite(got).all()


def test_forward__shrunk_equals_a_model_of_that_window():
    # 8x8 and 4x4 maps: both smaller than 9, so windows 8 and 4, unshifted
    big = _swin(window_size=9, out_indices=(1,))
    small = _swin(window_size=4, out_indices=(1,))
    state = big.state_dict()
    for name in list(state):
        if name.endswith('bias_table'):
            side, cut = 17, 5
            grid = state[name].view(side, side, -1)
            grid = grid[cut : side - cut, cut : side - cut]
            state[name] = grid.flatten(0, 1)
    small.load_state_dict(state)
    image = torch.randn(2, 3, 16, 16)  # 4x4 and 2x2
    torch.testing.assert_close(big(image)[0], small(image)[0])


@pytest.fixture
def logged():
    """Warnings of the current logger."""
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def test_forward__shrunken_window_is_said_once_per_stage(logged):
    model = _swin(window_size=7)
    model(torch.randn(1, 3, 56, 56))  # 14x14 and 7x7
    assert logged == []
    model(torch.randn(1, 3, 32, 40))  # 8x10 and 4x5
    assert len(logged) == 1
    for words in ('Swin stage 1', '4x5', 'window of 7x7', 'shrinks to 4x4'):
        assert words in logged[0]
    model(torch.randn(1, 3, 16, 24))  # 4x6 and 2x3
    assert len(logged) == 2
    for words in ('Swin stage 0', '4x6', 'shrinks to 4x4'):
        assert words in logged[1]
    # neither again, nor in a momentum copy
    for again in (model, copy.deepcopy(model)):
        again(torch.randn(1, 3, 16, 16))
    assert len(logged) == 2
    _swin(window_size=7)(torch.randn(1, 3, 16, 16))
    assert len(logged) == 4


def test_forward__padded_small_maps_are_not_reported(logged):
    _swin(window_size=7, pad_small_map=True)(torch.randn(1, 3, 16, 16))
    assert logged == []


@pytest.mark.parametrize('windows', [(7, 12), (12, 7), (4, 5)])
def test_load__resizes_tables(windows):
    old, new = (_swin(window_size=w) for w in windows)
    result = new.load_state_dict(old.state_dict(), strict=True)
    assert not result.missing_keys and not result.unexpected_keys
    wanted = resize_rel_pos_table(
        old.state_dict()[TABLE], (windows[0],) * 2, (windows[1],) * 2
    )
    assert torch.equal(new.state_dict()[TABLE], wanted)
    index = new.stages[0].blocks[0].attn.w_msa.relative_position_index
    assert torch.equal(index, relative_position_index(windows[1]))


def test_load__index_and_masks_may_differ():
    model = _swin()
    state = {
        k: v
        for k, v in model.state_dict().items()
        if 'position_index' not in k
    }
    state['stages.0.blocks.1.attn_mask'] = torch.zeros(4, 16, 16)
    _swin().load_state_dict(state, strict=True)


def test_load__absolute_positions():
    old = _swin(use_abs_pos_embed=True)
    new = _swin(use_abs_pos_embed=True, img_size=(32, 64))
    new.load_state_dict(old.state_dict())
    assert new.absolute_pos_embed.shape == (1, 8 * 16, 8)
    assert new(torch.randn(1, 3, 40, 40))[0].shape[2:] == (10, 10)


def test_set_window_size__like_loading():
    model, other = _swin(window_size=4), _swin(window_size=6)
    other.load_state_dict(model.state_dict())
    model.set_window_size(6)
    image = torch.randn(1, 3, 48, 56)
    for got, wanted in zip(model(image), other(image)):
        torch.testing.assert_close(got, wanted)
    with pytest.raises(ValueError, match='window_size'):
        model.set_window_size(0)


def test_with_cp__same_gradients_without_warning():
    plain = _swin().train()
    recompute = _swin(with_cp=True).train()
    recompute.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        for model in (plain, recompute):
            torch.manual_seed(1)
            model(image)[-1].square().mean().backward()
    for one, two in zip(plain.parameters(), recompute.parameters()):
        if one.grad is not None or two.grad is not None:
            torch.testing.assert_close(one.grad, two.grad)


def test_autocast__close_to_fp32():
    model = _swin(window_size=5)
    image = torch.randn(1, 3, 24, 24)
    wanted = model(image)[-1]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = model(image)[-1]
    assert (got.float() - wanted).abs().max() < 0.1 * wanted.abs().max()


def test_train__returns_self_and_freezes():
    model = _swin(frozen_stages=0)
    assert model.train() is model and model.eval() is model
    model.train()
    assert not model.stages[0].training and model.stages[1].training
    assert not next(model.stages[0].parameters()).requires_grad


def test_deepcopy__is_independent():
    model = _swin()
    twin = copy.deepcopy(model)
    twin.set_window_size(5)
    assert model.stages[0].blocks[0].attn.window_size == 4
    assert model.state_dict()[TABLE].shape != twin.state_dict()[TABLE].shape


@pytest.mark.parametrize(
    'name, depth',
    [
        ('b.patch_embed.projection.weight', 0),
        ('b.absolute_pos_embed', 0),
        ('b.stages.0.blocks.0.norm1.weight', 1),
        ('b.stages.0.blocks.1.attn.w_msa.qkv.weight', 2),
        ('b.stages.0.downsample.reduction.weight', 2),
        ('b.stages.0.downsample.norm.weight', 2),
        ('b.stages.1.blocks.1.ffn.layers.1.bias', 4),
        ('b.norm1.weight', 5),
        ('head.weight', 5),
    ],
)
def test_get_layer_depth__cases(name, depth):
    assert _swin().get_layer_depth(name, prefix='b.') == (depth, 6)


def test_init__wrong_options():
    with pytest.raises(ValueError, match='table_mode'):
        _swin(table_mode='area')
    with pytest.raises(ValueError, match='arch'):
        _swin(arch='huge')
    with pytest.raises(ValueError, match='stages 0 to 1'):
        _swin(out_indices=(2,))
    assert list(_swin(out_indices=(-1,)).out_indices) == [1]
