"""Backbones out of the checkpoints of DINO, MoBY and SelfPatch."""

import pytest
import torch

from mmdense.apis.convert import convert_pretraining
from mmdense.apis.export import export_backbone
from mmdense.models.backbones import load_backbone
from mmdense.registry import MODELS
from mmdense.utils.checkpoint_keys import extract_backbone

ARCH = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)


def _vit(**options):
    return dict(
        type='mmdense.VisionTransformer',
        arch=ARCH,
        img_size=32,
        patch_size=8,
        out_type='tokens',
        **options,
    )


def _swin():
    return dict(
        type='mmdense.SwinTransformer',
        arch=dict(embed_dims=8, depths=[2, 2], num_heads=[2, 4]),
        img_size=32,
        window_size=4,
    )


def _head(width, outputs):
    return dict(
        type='mmdense.DINOHead',
        in_channels=width,
        out_channels=outputs,
        hid_channels=16,
        bottleneck_channels=8,
    )


def _mlp(width):
    return dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=width,
        hid_channels=16,
        out_channels=12,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d'),
    )


def _dino(backbone, width):
    return dict(
        type='mmdense.DINO',
        backbone=backbone,
        neck=_head(width, 20),
        loss=dict(type='mmdense.DINOLoss', out_channels=20),
    )


def _moby(backbone, width):
    return dict(
        type='mmdense.MoBY',
        backbone=backbone,
        neck=_mlp(width),
        predictor=_mlp(12),
        loss=dict(type='mmdense.MoBYLoss', channels=12, queue_size=8),
    )


def _selfpatch(method, width, **parts):
    return dict(
        type='mmdense.SelfPatch',
        method=method,
        aggregation=dict(
            type='mmdense.ClassAttentionPooling', embed_dims=width, num_heads=2
        ),
        **parts,
    )


RAW = dict(with_cls_token=False, final_norm=False)


def _config(name):
    method, _, arch = name.partition('_')
    swin = arch == 'swin'
    width = 16 if swin else 24
    base, _, wrapped = method.partition('+')
    backbone = _swin() if swin else _vit(**(RAW if wrapped else {}))
    config = {'dino': _dino, 'moby': _moby}[base](backbone, width)
    if wrapped == 'selfpatch':
        if base == 'dino':
            parts = dict(
                patch_head=_head(width, 10),
                patch_loss=dict(
                    type='mmdense.PatchDistillationLoss', out_channels=10
                ),
            )
        else:
            parts = dict(
                patch_head=_mlp(width),
                patch_predictor=_mlp(12),
                patch_loss=dict(
                    type='mmdense.PatchContrastLoss', channels=12, queue_size=8
                ),
            )
        config = _selfpatch(config, width, **parts)
    elif wrapped == 'plain':  # the ablation without the patch term
        config = _selfpatch(config, width, loss_weight=0.0)
    return config


METHODS = [
    *('dino_vit', 'dino_swin', 'moby_vit', 'moby_swin'),
    *('dino+selfpatch_vit', 'dino+selfpatch_swin', 'dino+plain_vit'),
    *('moby+selfpatch_vit', 'moby+selfpatch_swin'),
]


def _model(name):
    """A method whose student and teacher differ."""
    torch.manual_seed(0)
    model = MODELS.build(_config(name))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def _wanted(name, model, branch):
    method = getattr(model, 'method', model)
    if branch is None:
        branch = 'teacher' if name.startswith('dino') else 'student'
    part = method.teacher if branch == 'teacher' else method
    return branch, part.backbone


@pytest.mark.parametrize('branch', [None, 'student', 'teacher'])
@pytest.mark.parametrize('name', METHODS)
def test_extract_backbone__runner_checkpoints(name, branch):
    model = _model(name)
    state = model.state_dict()
    wanted_branch, backbone = _wanted(name, model, branch)
    source = extract_backbone({'state_dict': state, 'meta': {}}, branch)
    kind = 'selfpatch' if '+' in name else name.split('_')[0]
    assert (source.kind, source.branch) == (kind, wanted_branch)
    wanted = backbone.state_dict()
    assert set(source.state_dict) == set(wanted)
    for key, value in wanted.items():
        assert torch.equal(source.state_dict[key], value)
    # whatever else is there is named, nothing twice
    assert len(source.dropped) == len(state) - len(wanted)
    assert not set(source.dropped) & {
        source.prefix + key for key in source.state_dict
    }


@pytest.mark.parametrize('wrapped', ['module.', '_orig_mod.'])
def test_extract_backbone__wrapped_and_with_ema(wrapped):
    model = _model('dino+selfpatch_vit')
    state = {wrapped + k: v for k, v in model.state_dict().items()}
    ema = {f'module.{k}': v * 0 for k, v in model.state_dict().items()}
    source = extract_backbone({'state_dict': state, 'ema_state_dict': ema})
    assert source.prefix == 'method.teacher.backbone.'
    source = extract_backbone(
        {'state_dict': state, 'ema_state_dict': ema}, 'student'
    )
    assert source.prefix == 'method.backbone.'


@pytest.mark.parametrize('name', METHODS)
def test_export_backbone__and_pretrained(tmp_path, name):
    model = _model(name)
    run, plain = str(tmp_path / 'epoch_1.pth'), str(tmp_path / 'x.pth')
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, run)
    coverage = export_backbone(run, plain)
    assert coverage.share == 1 and not coverage.unexpected
    assert any('neck' in key for key in coverage.dropped)
    assert any('pool' in key for key in coverage.dropped) == ('+' in name)
    branch, backbone = _wanted(name, model, None)
    assert torch.load(plain, weights_only=True)['meta']['branch'] == branch
    for path in (run, plain):
        other = _model(name)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        method = getattr(other, 'method', other)
        assert load_backbone(method.backbone, path).share == 1
        for key, value in backbone.state_dict().items():
            assert torch.equal(method.backbone.state_dict()[key], value)


def test_pretrained__starts_student_and_teacher(tmp_path):
    model = _model('dino+selfpatch_vit')
    path = str(tmp_path / 'epoch_1.pth')
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    config = _config('dino+selfpatch_vit')
    config['method']['backbone']['init_cfg'] = dict(
        type='mmdense.Pretrained', checkpoint=path
    )
    other = MODELS.build(config)
    other.init_weights()
    wanted = model.method.teacher.backbone.state_dict()
    for part in (other.method, other.method.teacher):
        for key, value in part.backbone.state_dict().items():
            assert torch.equal(value, wanted[key])


@pytest.mark.parametrize('bare', [True, False])
def test_extract_backbone__official_heads_are_dropped(tmp_path, bare):
    """A teacher whose backbone keys have lost their prefix keeps heads."""
    run, file = str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth')
    model = _model('dino+selfpatch_vit')
    torch.save({'state_dict': model.state_dict()}, run)
    convert_pretraining(run, file)
    teacher = torch.load(file, weights_only=True)['teacher']
    if bare:
        teacher = {k.replace('backbone.', ''): v for k, v in teacher.items()}
    source = extract_backbone(teacher)
    assert source.kind == 'selfpatch'
    assert len(source.state_dict) == len(model.backbone.state_dict())
    heads = ('ca_head.', 'c_head.', 'p_head.')
    assert source.dropped and all(k.startswith(heads) for k in source.dropped)
    torch.save(teacher, file)
    coverage = export_backbone(file, str(tmp_path / 'c.pth'))
    assert coverage.share == 1 and not coverage.unexpected
