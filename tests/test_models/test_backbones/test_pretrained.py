import pytest
import torch
from torch import nn

from mmdense.models.backbones import (
    SwinTransformer,
    VisionTransformer,
    load_backbone,
)
from mmdense.models.backbones import pretrained as module
from mmdense.registry import MODELS
from mmdense.utils.checkpoint_keys import (
    CheckpointKeyError,
    CoverageError,
    from_canonical,
)
from mmdense.utils.position import resize_pos_embed

ResNet = MODELS.get('mmpretrain.ResNet')
StockViT = MODELS.get('mmpretrain.VisionTransformer')
ARCH = {
    'embed_dims': 24,
    'num_layers': 2,
    'num_heads': 3,
    'feedforward_channels': 48,
}
SWIN = {'embed_dims': 8, 'depths': [2, 2], 'num_heads': [2, 4]}
SIZE = {'arch': ARCH, 'img_size': 32, 'patch_size': 8}


def _random(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.normal_().abs_()
    return model


@pytest.fixture
def vit_file(tmp_path):
    model = _random(VisionTransformer(**SIZE))
    path = tmp_path / 'vit.pth'
    torch.save(from_canonical(model.state_dict(), 'vit', 'timm'), path)
    return str(path), model.state_dict()


def _cfg(path, **kwargs):
    return {'type': 'mmdense.Pretrained', 'checkpoint': path, **kwargs}


def _same(model, state):
    own = model.state_dict()
    assert set(own) == set(state)
    for key, value in state.items():
        torch.testing.assert_close(own[key], value, rtol=0, atol=0, msg=key)


@pytest.mark.parametrize('cls', [VisionTransformer, StockViT])
@pytest.mark.parametrize('as_list', [False, True])
def test_pretrained__survives_every_initialiser(vit_file, cls, as_list):
    path, state = vit_file
    init_cfg = _cfg(path)
    if as_list:
        normal = {'type': 'TruncNormal', 'layer': 'Linear', 'std': 0.02}
        init_cfg = [init_cfg, normal]
        if cls is StockViT:
            init_cfg.reverse()
    model = cls(**SIZE, init_cfg=init_cfg)
    model.init_weights()
    _same(model, state)
    model.init_weights()  # a second call must not touch the positions
    _same(model, state)


def test_pretrained__init_std_does_not_overwrite(vit_file):
    path, state = vit_file
    model = VisionTransformer(**SIZE, init_std=0.02, init_cfg=_cfg(path))
    model.init_weights()
    _same(model, state)


def test_pretrained__inside_a_model(vit_file):
    path, state = vit_file
    from mmengine.model import BaseModule

    class Model(BaseModule):
        def __init__(self):
            super().__init__(
                {'type': 'Normal', 'layer': 'Linear', 'std': 0.01}
            )
            self.backbone = MODELS.build(
                {
                    'type': 'mmdense.VisionTransformer',
                    **SIZE,
                    'init_cfg': _cfg(path),
                }
            )
            self.head = nn.Linear(24, 3)

    model = Model()
    model.init_weights()
    _same(model.backbone, state)
    assert model.head.weight.std() < 0.05


def test_pretrained__none_is_random(monkeypatch):
    lines = []
    monkeypatch.setattr(
        module, 'print_log', lambda text, **kwargs: lines.append(text)
    )
    model = VisionTransformer(**SIZE, init_cfg=_cfg(None))
    model.init_weights()
    assert model.pos_embed.std() > 0
    assert 'stay random' in lines[0]


@pytest.mark.parametrize('rule', ['size', 'scale'])
def test_load_backbone__resizes_positions(vit_file, rule):
    path, state = vit_file
    model = VisionTransformer(
        ARCH, img_size=(48, 40), patch_size=8, pos_embed_rule=rule
    )
    coverage = load_backbone(model, path)
    wanted = resize_pos_embed(state['pos_embed'], (4, 4), (6, 5), rule=rule)
    assert torch.equal(model.pos_embed, wanted)
    assert list(coverage.resized) == ['pos_embed'] and coverage.share == 1


def test_load_backbone__same_count_other_grid(vit_file, tmp_path):
    path, state = vit_file
    model = VisionTransformer(ARCH, img_size=(16, 64), patch_size=8)
    load_backbone(model, path)
    wanted = resize_pos_embed(state['pos_embed'], (4, 4), (2, 8))
    assert torch.equal(model.pos_embed, wanted)
    # a file in our own layout is taken as it is
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'own.pth')
    again = VisionTransformer(ARCH, img_size=(16, 64), patch_size=8)
    load_backbone(again, str(tmp_path / 'own.pth'))
    assert torch.equal(again.pos_embed, model.pos_embed)


def test_load_backbone__pos_grid(vit_file, tmp_path):
    model = _random(VisionTransformer(ARCH, img_size=(16, 64), patch_size=8))
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'own.pth')
    other = VisionTransformer(**SIZE)
    load_backbone(other, str(tmp_path / 'own.pth'), pos_grid=(2, 8))
    wanted = resize_pos_embed(model.pos_embed, (2, 8), (4, 4))
    assert torch.equal(other.pos_embed, wanted)


def test_load_backbone__class_token_dropped_or_missing(vit_file, tmp_path):
    path, state = vit_file
    bare = VisionTransformer(
        **SIZE, with_cls_token=False, final_norm=False, out_type='raw'
    )
    coverage = load_backbone(bare, path)
    assert torch.equal(bare.pos_embed, state['pos_embed'][:, 1:])
    assert coverage.share == 1
    assert set(coverage.unexpected) == {'cls_token', 'ln1.weight', 'ln1.bias'}

    torch.save(bare.state_dict(), tmp_path / 'bare.pth')
    full = VisionTransformer(**SIZE)
    coverage = load_backbone(full, str(tmp_path / 'bare.pth'))
    assert torch.equal(full.pos_embed[:, 1:], state['pos_embed'][:, 1:])
    assert set(coverage.missing) == {'cls_token', 'ln1.weight', 'ln1.bias'}


@pytest.mark.parametrize('window', [4, 6])
def test_load_backbone__swin_from_official(tmp_path, window):
    old = _random(SwinTransformer(SWIN, img_size=32, window_size=4))
    old.eval()
    official = from_canonical(old.state_dict(), 'swin', 'timm')
    official = {k: v for k, v in official.items() if 'index' not in k}
    official['layers.0.blocks.1.attn_mask'] = torch.zeros(4, 16, 16)
    official['head.weight'] = torch.zeros(10, 16)
    torch.save({'model': official}, tmp_path / 'swin.pth')
    new = SwinTransformer(
        SWIN,
        img_size=32,
        window_size=window,
        out_indices=(1,),
        init_cfg=_cfg(str(tmp_path / 'swin.pth')),
    )
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.zero_()
    coverage = load_backbone(new, str(tmp_path / 'swin.pth'), min_match=0)
    assert not coverage.missing and not coverage.unexpected
    assert len(coverage.resized) == (0 if window == 4 else 4)
    new.init_weights()
    new.eval()
    if window == 4:
        image = torch.randn(1, 3, 32, 32)
        torch.testing.assert_close(new(image), old(image))


@pytest.mark.parametrize('container', ['moco', 'torchvision', 'runner'])
def test_pretrained__stock_resnet(tmp_path, container):
    old = _random(ResNet(18)).state_dict()
    prefix = {'moco': 'module.base_encoder.', 'runner': 'backbone.'}
    state = {prefix.get(container, '') + k: v for k, v in old.items()}
    if container == 'moco':
        state['module.momentum_encoder.conv1.weight'] = torch.zeros(1)
    file = state if container == 'torchvision' else {'state_dict': state}
    torch.save(file, tmp_path / 'r.pth')
    model = ResNet(18, init_cfg=_cfg(str(tmp_path / 'r.pth')))
    model.init_weights()
    # also the norms that ResNet zeroes at the end of its own initialiser
    _same(model, old)


def test_load_backbone__too_little_raises_and_loads_nothing(
    vit_file, tmp_path
):
    path, state = vit_file
    wide = dict(ARCH, embed_dims=36)
    model = VisionTransformer(wide, img_size=32, patch_size=8)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CoverageError, match='0.4%.*min_match') as info:
        load_backbone(model, path)
    assert 'mismatched' in str(info.value)
    _same(model, before)
    deep = VisionTransformer(
        dict(ARCH, num_layers=4), img_size=32, patch_size=8
    )
    with pytest.raises(CoverageError, match=r'layers\.2\.'):
        load_backbone(deep, path)
    coverage = load_backbone(deep, path, min_match=0.5)
    assert 0.5 < coverage.share < 0.9


def test_load_backbone__other_architecture(vit_file):
    with pytest.raises(CheckpointKeyError, match='vit.*swin'):
        load_backbone(SwinTransformer(SWIN, img_size=32), vit_file[0])


def test_pretrained__wrong_share():
    with pytest.raises(ValueError, match='min_match'):
        module.Pretrained('x.pth', min_match=90)


def test_load_backbone__no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='vit'):
        load_backbone(VisionTransformer(**SIZE), str(tmp_path / 'vit.pth'))


def test_pretrained__mmseg_segmentor(vit_file):
    pytest.importorskip('mmseg')
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS as SEG

    path, state = vit_file
    cfg = {
        'type': 'EncoderDecoder',
        'data_preprocessor': {'type': 'SegDataPreProcessor', 'size': (32, 32)},
        'backbone': {
            'type': 'mmdense.VisionTransformer',
            **SIZE,
            'out_type': 'featmap',
            'init_cfg': _cfg(path),
        },
        'decode_head': {
            'type': 'FCNHead',
            'in_channels': 24,
            'channels': 24,
            'in_index': 0,
            'num_convs': 0,
            'concat_input': False,
            'num_classes': 3,
        },
        'test_cfg': {'mode': 'whole'},
    }
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = SEG.build(cfg)
        model.init_weights()
        _same(model.backbone, state)
        stock = SEG.build(
            {
                'type': 'mmseg.VisionTransformer',
                'img_size': 32,
                'patch_size': 8,
                'embed_dims': 24,
                'num_layers': 2,
                'num_heads': 3,
                'mlp_ratio': 2,
                'patch_bias': True,
                'final_norm': True,
                'norm_cfg': {'type': 'LN', 'eps': 1e-6},
                'init_cfg': _cfg(path),
            }
        )
        stock.init_weights()
    image = torch.randn(2, 3, 32, 32)
    model.eval()
    stock.eval()
    wanted = model.backbone(image)[0]
    torch.testing.assert_close(stock(image)[0], wanted)
