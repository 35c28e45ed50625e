import argparse
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import load_checkpoint

from mmdense.apis.convert import convert_pretraining
from mmdense.registry import MODELS
from mmdense.utils.checkpoint_keys import (
    CheckpointKeyError,
    CoverageError,
    read_training,
)

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / 'tests/data/golden'
TOOL = ROOT / 'tools/model_converters/convert_pretraining.py'


def _golden(name):
    with np.load(GOLDEN / f'{name}.npz') as stored:
        return {k: torch.from_numpy(stored[k]) for k in stored.files}


def _below(arrays, prefix):
    return {
        k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)
    }


def _official(name):
    """A file of the official code, with tiny weights."""
    arrays = _golden(name)
    if name == 'moby':
        return {'model': _below(arrays, 'sd/'), 'epoch': 2, 'config': 'x'}
    student = _below(arrays, 'sd_student/')
    loss = _below(arrays, 'in/')
    return {
        'student': {f'module.{k}': v for k, v in student.items()},
        'teacher': _below(arrays, 'sd_teacher/'),
        'dino_loss': {k: v for k, v in loss.items() if 'center' in k},
        'optimizer': {'state': {}},
        'epoch': 3,
    }


def _vit(**options):
    return dict(
        type='mmdense.VisionTransformer',
        arch=dict(
            embed_dims=36,
            num_layers=2,
            num_heads=3,
            feedforward_channels=144,
        ),
        out_type='tokens',
        pos_embed_rule='scale',
        **options,
    )


def _head(outputs):
    return dict(
        type='mmdense.DINOHead',
        in_channels=36,
        out_channels=outputs,
        hid_channels=64,
        bottleneck_channels=24,
    )


def _mlp(width):
    return dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=width,
        hid_channels=24,
        out_channels=256,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d'),
    )


def _dino(outputs, **options):
    return dict(
        type='mmdense.DINO',
        backbone=_vit(**options),
        neck=_head(outputs),
        loss=dict(type='mmdense.DINOLoss', out_channels=outputs),
        center_crops='all' if 'with_cls_token' in options else 'global',
    )


def _model(name):
    if name == 'dino_step':
        config = _dino(64, img_size=64, patch_size=8)
    elif name == 'selfpatch_step':
        config = dict(
            type='mmdense.SelfPatch',
            method=_dino(64, with_cls_token=False, final_norm=False),
            aggregation=dict(
                type='mmdense.ClassAttentionPooling',
                embed_dims=36,
                num_heads=3,
            ),
            matching=dict(border='wrap'),
            patch_head=_head(32),
            patch_loss=dict(
                type='mmdense.PatchDistillationLoss', out_channels=32
            ),
        )
    else:
        config = dict(
            type='mmdense.MoBY',
            backbone=dict(
                type='mmdense.SwinTransformer',
                arch=dict(embed_dims=12, depths=[2, 2], num_heads=[2, 3]),
                img_size=32,
                window_size=4,
                drop_path_rate=0.0,
            ),
            neck=_mlp(24),
            predictor=_mlp(256),
            loss=dict(type='mmdense.MoBYLoss', queue_size=16),
        )
    return MODELS.build(config)


def _read(path):
    return torch.load(path, weights_only=True)


STEPS = ['dino_step', 'selfpatch_step', 'moby']


@pytest.mark.parametrize('name', STEPS)
def test_convert_pretraining__same_loss_and_back(tmp_path, name):
    """The method computes the official loss; the way back loses nothing."""
    there, own, back = (str(tmp_path / f'{i}.pth') for i in range(3))
    torch.save(_official(name), there)
    coverage = convert_pretraining(there, own)
    assert coverage.share == 1 and not coverage.unexpected
    model = _model(name).train()
    result = load_checkpoint(model, own, map_location='cpu', strict=False)
    assert result['meta']['epoch'] == 3
    arrays = _golden(name)
    crops = _below(arrays, 'in/crop') or _below(arrays, 'in/im_')
    if name == 'moby':
        model.before_step(0.3)
    losses = model.loss([crops[k] for k in sorted(crops)], [])
    total = sum(v for k, v in losses.items() if k.startswith('loss'))
    wanted = arrays['out/loss' if name == 'moby' else 'out/total']
    torch.testing.assert_close(total, wanted, rtol=1e-5, atol=0)

    convert_pretraining(own, back)
    first, last = _read(there), _read(back)
    assert set(first) - set(last) <= {'optimizer', 'config'}
    assert last['epoch'] == first['epoch']
    for part in set(last) - {'epoch'}:
        assert set(last[part]) == set(first[part])
        for key, value in first[part].items():
            assert last[part][key].shape == value.shape
            assert torch.equal(last[part][key], value), key


@pytest.mark.parametrize('name', STEPS)
def test_convert_pretraining__runner_checkpoint_and_back(tmp_path, name):
    """What a runner saves comes back but for what schedules set."""
    run, there, back = (str(tmp_path / f'{i}.pth') for i in range(3))
    torch.manual_seed(0)
    model = _model(name)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.normal_()
    torch.save(
        {
            'meta': {'epoch': 4, 'iter': 40},
            'state_dict': model.state_dict(),
            'optimizer': {'param_groups': []},
            'message_hub': {},
        },
        run,
    )
    coverage = convert_pretraining(run, there, img_size=32)
    assert coverage.share == 1
    scheduled = ('teacher.momentum', 'teacher_temp')
    assert all(key.endswith(scheduled) for key in coverage.dropped)
    file = _read(there)
    if name == 'moby':
        assert file['epoch'] == 3
        shapes = {k: v.shape for k, v in file['model'].items()}
        wanted = _official(name)['model']
        assert shapes == {k: v.shape for k, v in wanted.items()}
    else:
        assert file['epoch'] == 4
        assert all(k.startswith('module.') for k in file['student'])
    convert_pretraining(there, back)
    state = _read(back)['state_dict']
    for key, value in model.state_dict().items():
        if not key.endswith(scheduled):
            assert torch.equal(state.pop(key), value), key
    assert not state


def test_convert_pretraining__report(tmp_path, capsys):
    file = _official('selfpatch_step')
    del file['teacher']['ca_head.norm.weight']
    del file['student']['module.p_head.mlp.4.bias']
    file['student']['module.p_head.mlp.2.bias'] = torch.zeros(5)
    file['teacher']['backbone.extra'] = torch.zeros(2, 3)
    file['dino_loss']['other'] = torch.zeros(7)
    torch.save(file, tmp_path / 'a.pth')
    coverage = convert_pretraining(
        str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth')
    )
    assert sorted(coverage.missing) == [
        'method.patch_head.mlp.4.bias',
        'method.teacher.pool.norm.weight',
    ]
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert 'official checkpoint of SelfPatch, vit, epoch 3' in out
    assert 'method.teacher.pool.norm.weight (36)' in lines['missing']
    assert 'patch_head.mlp.2.bias (5, wanted 64)' in lines['mismatched']
    assert 'method.teacher.backbone.extra (2x3)' in lines['unexpected']
    assert 'dino_loss.other (7)' in lines['unexpected']
    assert 'student 35, teacher 34' in lines['pool']
    assert 'center (1x64), center (1x32)' in lines['buffers']
    assert 'Not converted: optimizer.' in out
    total = len(file['student']) + len(file['teacher']) + 2
    mapped = int(lines['mapped'].split()[1])
    assert mapped == total - 2  # one of another shape, one extra
    state = _read(tmp_path / 'b.pth')['state_dict']
    assert 'method.teacher.backbone.extra' not in state
    assert 'method.patch_head.mlp.2.bias' not in state


def test_convert_pretraining__too_little(tmp_path):
    file = _official('dino_step')
    file['student'] = {
        k: v for k, v in file['student'].items() if 'blocks.1' not in k
    }
    file['teacher'] = {
        k: v for k, v in file['teacher'].items() if 'blocks.0' not in k
    }
    torch.save(file, tmp_path / 'a.pth')
    paths = str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth')
    with pytest.raises(CoverageError, match='min_match'):
        convert_pretraining(*paths)
    assert not Path(paths[1]).exists()
    share = convert_pretraining(*paths, min_match=0.5).share
    assert 0.5 < share < 0.9


@pytest.mark.parametrize('alone', [False, True])
def test_convert_pretraining__one_network(tmp_path, capsys, alone):
    teacher = _official('selfpatch_step')['teacher']
    if alone:
        teacher = _below(teacher, 'backbone.')
    torch.save(teacher, tmp_path / 'a.pth')
    convert_pretraining(str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth'))
    out = capsys.readouterr().out
    assert 'both start from' in out
    absent = 'pool, neck, patch_head, centres' if alone else 'centres'
    assert f'Not in the file: {absent}.' in out
    assert ('taken for selfpatch' in out) == alone
    state = _read(tmp_path / 'b.pth')['state_dict']
    model = _model('selfpatch_step')
    model.init_weights()
    load_checkpoint(model, str(tmp_path / 'b.pth'))
    method = model.method
    parts = method.student_parts()
    wanted = read_training(teacher).parts['teacher', 'backbone']
    for name, part in parts.items():
        copy = getattr(method.teacher, name).state_dict()
        for key, value in part.state_dict().items():
            assert torch.equal(copy[key], value)
            both = f'method.{name}.{key}', f'method.teacher.{name}.{key}'
            if name == 'backbone' or not alone:
                assert all(torch.equal(state[full], value) for full in both)
    for key, value in parts['backbone'].state_dict().items():
        assert torch.equal(value, wanted[key])


@pytest.mark.parametrize(
    'change, match',
    [
        (lambda f: f['teacher'].pop('head.last_layer.weight_v'), 'weight_v'),
        (lambda f: f.pop('student'), 'weight_v'),
    ],
)
def test_convert_pretraining__size_of_a_part(tmp_path, change, match):
    file = _official('dino_step')
    file['student'].pop('module.head.last_layer.weight_v')
    file['teacher'].pop('head.last_layer.weight_v')
    file['teacher']['head.last_layer.weight_v'] = torch.zeros(64, 24)
    change(file)
    file['teacher'].pop('head.last_layer.weight_v', None)
    torch.save(file, tmp_path / 'a.pth')
    with pytest.raises(CheckpointKeyError, match=match):
        convert_pretraining(str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth'))


@pytest.fixture()
def run(monkeypatch, capsys):
    """Run the tool: exit code, standard output, standard error."""

    def call(*args):
        argv = [str(TOOL), *map(str, args)]
        monkeypatch.setattr(sys, 'argv', argv)
        code = 0
        try:
            runpy.run_path(str(TOOL), run_name='__main__')
        except SystemExit as end:
            code = end.code
        if isinstance(code, str):
            return 1, capsys.readouterr().out, code
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return call


def test_cli__converts_and_fails(tmp_path, run):
    file = _official('dino_step')
    torch.save(file, tmp_path / 'a.pth')
    code, out, err = run(tmp_path / 'a.pth', tmp_path / 'x' / 'b.pth')
    assert code == 0, err
    assert 'mapped' in out and '100.0%' in out
    assert 'neck.mlp.0.weight' in _read(tmp_path / 'x/b.pth')['state_dict']

    target = tmp_path / 'c.pth'
    torch.save({'net': {'conv.weight': torch.zeros(3)}}, tmp_path / 'd.pth')
    for args, match in (
        ((tmp_path / 'a.pth', target, '--to', 'official'), 'official dino'),
        ((tmp_path / 'd.pth', target), "['conv']"),
        ((tmp_path / 'a.pth', tmp_path / 'a.pth'), 'same file'),
        ((tmp_path / 'none.pth', target), 'No checkpoint'),
    ):
        code, _, err = run(*args)
        assert code == 2 and err.startswith('error: ') and match in err
    assert not target.exists()


def test_cli__too_little_and_trust(tmp_path, run):
    file = _official('dino_step')
    file['args'] = argparse.Namespace(arch='vit_tiny')
    file['student'] = {
        k: v for k, v in file['student'].items() if 'blocks' not in k
    }
    torch.save(file, tmp_path / 'a.pth')
    paths = tmp_path / 'a.pth', tmp_path / 'b.pth'
    code, _, err = run(*paths)
    assert code == 2 and '--trust-checkpoint' in err
    code, out, err = run(*paths, '--trust-checkpoint')
    assert code == 1 and 'min_match' in err and 'missing' in out
    assert not paths[1].exists()
    code, _, err = run(*paths, '--trust-checkpoint', '--min-match', 0.5)
    assert code == 0 and paths[1].exists(), err
