import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmdense.apis.export import export_backbone
from mmdense.models.backbones import (
    SwinTransformer,
    VisionTransformer,
    load_backbone,
)
from mmdense.registry import MODELS
from mmdense.utils.checkpoint_keys import CheckpointKeyError, CoverageError

ResNet = MODELS.get('mmpretrain.ResNet')
StockViT = MODELS.get('mmpretrain.VisionTransformer')
TOOL = Path(__file__).parents[2] / 'tools/model_converters/export_backbone.py'
ARCH = {
    'embed_dims': 24,
    'num_layers': 2,
    'num_heads': 3,
    'feedforward_channels': 48,
}
SWIN = {'embed_dims': 8, 'depths': [2, 2], 'num_heads': [2, 4]}


def _random(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.normal_().abs_()
    model.eval()
    return model


def _models(name):
    if name == 'vit':
        return _random(VisionTransformer(ARCH, img_size=32, patch_size=8))
    if name == 'selfpatch':
        return _random(
            VisionTransformer(
                ARCH,
                img_size=32,
                patch_size=8,
                with_cls_token=False,
                final_norm=False,
                out_type='raw',
            )
        )
    if name == 'swin':
        return _random(
            SwinTransformer(SWIN, img_size=32, window_size=4, out_indices=(1,))
        )
    return _random(ResNet(18))


def _runner_file(path, model, **extra):
    state = {f'backbone.{k}': v for k, v in model.state_dict().items()}
    state['head.fc.weight'] = torch.zeros(3, 3)
    torch.save({'state_dict': {**state, **extra}, 'meta': {}}, path)
    return str(path)


def _read(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize('name', ['vit', 'selfpatch', 'swin', 'resnet'])
@pytest.mark.parametrize('layout', ['mmpretrain', 'mmseg', 'mmdet', 'timm'])
def test_export_backbone__round_trip(tmp_path, name, layout):
    model = _models(name)
    source = _runner_file(tmp_path / 'epoch_1.pth', model)
    there, back = str(tmp_path / 'a' / 'there.pth'), str(tmp_path / 'b.pth')
    if name == 'selfpatch' and layout == 'mmseg':
        with pytest.raises(CheckpointKeyError, match='class token'):
            export_backbone(source, there, layout)
        assert not Path(there).exists()
        return
    coverage = export_backbone(source, there, layout)
    assert coverage.share == 1 and coverage.dropped == ['head.fc.weight']
    export_backbone(there, back, 'mmpretrain')
    state = _read(back)['state_dict']
    wanted = model.state_dict()
    assert set(state) == set(wanted)
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)
    meta = _read(there)['meta']
    assert meta['layout'] == layout and meta['source'] == 'epoch_1.pth'


@pytest.mark.parametrize('name', ['vit', 'swin', 'resnet'])
@pytest.mark.parametrize('layout', ['mmpretrain', 'mmseg', 'mmdet', 'timm'])
def test_export_backbone__loads_again(tmp_path, name, layout):
    model = _models(name)
    source = _runner_file(tmp_path / 'epoch_1.pth', model)
    export_backbone(source, str(tmp_path / 'x.pth'), layout)
    other = _models(name)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert load_backbone(other, str(tmp_path / 'x.pth')).share == 1
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(other(image)[-1], model(image)[-1])


def test_export_backbone__stock_mmpretrain_class(tmp_path):
    model = _models('vit')
    source = _runner_file(tmp_path / 'e.pth', model)
    export_backbone(source, str(tmp_path / 'x.pth'))
    stock = StockViT(
        ARCH,
        img_size=32,
        patch_size=8,
        init_cfg={
            'type': 'Pretrained',
            'checkpoint': str(tmp_path / 'x.pth'),
        },
    )
    stock.init_weights()
    stock.eval()
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(stock(image)[0], model(image)[0])


def test_export_backbone__stock_mmseg_class(tmp_path):
    pytest.importorskip('mmseg')
    from mmseg.models.backbones import VisionTransformer as SegViT

    model = _random(
        VisionTransformer(ARCH, img_size=32, patch_size=8, out_type='featmap')
    )
    source = _runner_file(tmp_path / 'e.pth', model)
    export_backbone(source, str(tmp_path / 'x.pth'), 'mmseg')
    stock = SegViT(
        img_size=32,
        patch_size=8,
        embed_dims=24,
        num_layers=2,
        num_heads=3,
        mlp_ratio=2,
        patch_bias=True,
        final_norm=True,
        norm_cfg={'type': 'LN', 'eps': 1e-6},
        init_cfg={
            'type': 'Pretrained',
            'checkpoint': str(tmp_path / 'x.pth'),
        },
    )
    stock.init_weights()
    stock.eval()
    result = stock.load_state_dict(_read(tmp_path / 'x.pth')['state_dict'])
    assert not result.missing_keys and not result.unexpected_keys
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(
        stock(image)[0], model(image)[0], rtol=1e-4, atol=1e-4
    )


def test_export_backbone__stock_mmdet_swin(tmp_path):
    pytest.importorskip('mmdet')
    from mmdet.models.backbones import SwinTransformer as DetSwin
    from mmengine.config import ConfigDict

    # 2 stages as in SWIN; maps above the window, where all classes agree
    model = _random(
        SwinTransformer(SWIN, img_size=64, window_size=4, out_indices=(0, 1))
    )
    source = _runner_file(tmp_path / 'e.pth', model)
    export_backbone(source, str(tmp_path / 'x.pth'), 'mmdet')
    stock = DetSwin(
        pretrain_img_size=64,
        embed_dims=8,
        depths=(2, 2),
        num_heads=(2, 4),
        strides=(4, 2),
        window_size=4,
        out_indices=(0, 1),
        convert_weights=False,
        init_cfg=ConfigDict(
            type='Pretrained', checkpoint=str(tmp_path / 'x.pth')
        ),
    )
    stock.init_weights()
    stock.eval()
    image = torch.randn(1, 3, 64, 64)
    for got, wanted in zip(stock(image), model(image)):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('branch, value', [('student', 0), ('teacher', 1)])
def test_export_backbone__branch(tmp_path, branch, value):
    model = _models('vit')
    state = {}
    for name, number in (('student', 0.0), ('teacher', 1.0)):
        for key, tensor in model.state_dict().items():
            prefix = 'backbone.' if name == 'student' else 'teacher.backbone.'
            state[prefix + key] = torch.full_like(tensor, number)
    torch.save({'state_dict': state}, tmp_path / 'e.pth')
    export_backbone(
        str(tmp_path / 'e.pth'), str(tmp_path / 'x.pth'), branch=branch
    )
    file = _read(tmp_path / 'x.pth')
    assert file['meta']['branch'] == branch
    assert all((v == value).all() for v in file['state_dict'].values())


def test_export_backbone__lost_layers(tmp_path):
    model = _models('vit')
    state = {
        k: v for k, v in model.state_dict().items() if 'layers.0.ffn' not in k
    }
    state['layers.0.ffn.layers.0.0.weight'] = torch.zeros(48, 24)
    torch.save(state, tmp_path / 'e.pth')
    with pytest.raises(CoverageError, match=r'layers\.0\.ffn\.layers\.1'):
        export_backbone(
            str(tmp_path / 'e.pth'), str(tmp_path / 'x.pth'), min_match=0.95
        )
    assert not (tmp_path / 'x.pth').exists()
    for key in ('cls_token', 'ln1.weight', 'ln1.bias'):
        state = dict(model.state_dict())
        del state[key]
        torch.save(state, tmp_path / 'e.pth')
        coverage = export_backbone(
            str(tmp_path / 'e.pth'), str(tmp_path / 'x.pth')
        )
        assert coverage.missing == [key]


@pytest.mark.parametrize('arch', ['deit-tiny', 'swin-tiny', 'resnet50', 'x'])
def test_export_backbone__wrong_arch(tmp_path, arch):
    source = _runner_file(tmp_path / 'e.pth', _models('vit'))
    with pytest.raises((CoverageError, CheckpointKeyError)):
        export_backbone(source, str(tmp_path / 'x.pth'), arch=arch)


def test_export_backbone__arch_from_config(tmp_path):
    config = tmp_path / 'cfg.py'
    config.write_text(
        "model = dict(backbone=dict(type='mmdense.VisionTransformer', "
        f'arch={ARCH!r}, img_size=64, patch_size=8))\n'
    )
    source = _runner_file(tmp_path / 'e.pth', _models('vit'))
    coverage = export_backbone(
        source, str(tmp_path / 'x.pth'), arch=str(config)
    )
    assert coverage.share == 1


def test_export_backbone__same_file(tmp_path):
    source = _runner_file(tmp_path / 'e.pth', _models('vit'))
    with pytest.raises(CheckpointKeyError, match='same file'):
        export_backbone(source, source)


def _run(*args):
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, args)],
        capture_output=True,
        text=True,
        cwd='/',
    )


def test_cli__writes_prints_and_fails(tmp_path):
    source = _runner_file(tmp_path / 'e.pth', _models('vit'))
    done = _run(source, tmp_path / 'x.pth', '--layout', 'timm')
    assert done.returncode == 0, done.stderr
    assert 'share' in done.stdout and '100.0%' in done.stdout
    assert (
        'blocks.0.attn.qkv.weight' in _read(tmp_path / 'x.pth')['state_dict']
    )

    failed = _run(source, tmp_path / 'y.pth', '--arch', 'deit-tiny')
    assert failed.returncode != 0 and not (tmp_path / 'y.pth').exists()
    assert 'missing' in failed.stdout and 'min_match' in failed.stderr
    assert 'Traceback' not in failed.stderr


def test_cli__pickled_arguments_need_trust(tmp_path):
    state = _models('vit').state_dict()
    full = {
        'teacher': {f'backbone.{k}': v for k, v in state.items()},
        'student': {f'module.backbone.{k}': v * 0 for k, v in state.items()},
        'args': argparse.Namespace(arch='vit_tiny'),
    }
    torch.save(full, tmp_path / 'full.pth')
    refused = _run(tmp_path / 'full.pth', tmp_path / 'x.pth')
    assert refused.returncode == 2
    assert '--trust-checkpoint' in refused.stderr
    done = _run(
        tmp_path / 'full.pth', tmp_path / 'x.pth', '--trust-checkpoint'
    )
    assert done.returncode == 0, done.stderr
    file = _read(tmp_path / 'x.pth')
    assert file['meta']['branch'] == 'teacher'
    assert torch.equal(file['state_dict']['ln1.bias'], state['ln1.bias'])


def test_cli__no_such_file(tmp_path):
    failed = _run(tmp_path / 'none.pth', tmp_path / 'y.pth')
    assert failed.returncode == 2
    assert failed.stderr.startswith('error: No checkpoint')


@pytest.mark.parametrize('kind', ['Hybrid', 'Distilled'])
def test_export__kinds_of_vit(tmp_path, kind):
    from mmdense.models import backbones

    arch = dict(
        embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32
    )
    extra = dict(layers=(1, 2, 1), out_indices=1) if kind == 'Hybrid' else {}
    make = getattr(backbones, f'{kind}VisionTransformer')
    model = make(arch, img_size=48, final_norm=True, **extra)
    torch.nn.init.normal_(model.pos_embed)
    source = tmp_path / 'a.pth'
    torch.save(
        {
            'state_dict': {
                f'backbone.{k}': v for k, v in model.state_dict().items()
            }
        },
        source,
    )
    for layout in ('timm', 'mmpretrain'):
        target = tmp_path / f'{layout}.pth'
        coverage = export_backbone(str(source), str(target), layout=layout)
        assert coverage.share == 1 and not coverage.unexpected
        meta = torch.load(target, weights_only=True)['meta']
        assert meta['pos_grid'] == [3, 3]
        again = make(arch, img_size=48, final_norm=True, **extra)
        backbones.load_backbone(again, str(target), min_match=1.0)
        for key, value in model.state_dict().items():
            assert torch.equal(again.state_dict()[key], value), key
    with pytest.raises(CheckpointKeyError, match=f'mmdense.{kind}'):
        export_backbone(str(source), str(tmp_path / 'b.pth'), layout='mmseg')
