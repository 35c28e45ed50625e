import importlib.util
import json
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmdense.evaluation.functional.retrieval import patch_retrieval
from mmdense.models.backbones import as_tokens
from mmdense.testing.launch import ROOT
from mmdense.testing.tiny import build_model

TOOL = ROOT / 'tools' / 'analysis_tools' / 'patch_retrieval.py'
ROOMS = ROOT / 'demo' / 'data' / 'rooms'
MEAN, STD = [120.0, 110.0, 100.0], [60.0, 55.0, 50.0]
VIT = dict(
    type='mmdense.VisionTransformer',
    arch=dict(
        embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16
    ),
    img_size=32,
    patch_size=16,
    out_type='tokens',
)
SWIN = dict(
    type='mmdense.SwinTransformer',
    arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8]),
    img_size=64,
    window_size=4,
)
PREPROCESSOR = dict(
    type='mmpretrain.SelfSupDataPreprocessor', mean=MEAN, std=STD
)


def _head(width):
    return dict(
        type='mmdense.DINOHead',
        in_channels=width,
        out_channels=16,
        hid_channels=8,
        bottleneck_channels=8,
    )


def _dino(backbone, width):
    return dict(
        type='mmdense.DINO',
        backbone=backbone,
        neck=_head(width),
        loss=dict(type='mmdense.DINOLoss', out_channels=16),
    )


def _selfpatch():
    backbone = dict(VIT, with_cls_token=False, final_norm=False)
    return dict(
        type='mmdense.SelfPatch',
        method=_dino(backbone, 16),
        aggregation=dict(
            type='mmdense.ClassAttentionPooling', embed_dims=16, num_heads=2
        ),
        patch_head=_head(16),
        patch_loss=dict(type='mmdense.PatchDistillationLoss', out_channels=16),
    )


MODELS = {
    'vit': lambda: _dino(deepcopy(VIT), 16),
    'selfpatch': _selfpatch,
    'swin': lambda: _dino(deepcopy(SWIN), 64),
}


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('patch_retrieval', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool, monkeypatch, capsys):
    def call(*args):
        words = [str(TOOL), *map(str, args)]
        monkeypatch.setattr(sys, 'argv', words)
        tool.main()
        out = capsys.readouterr().out
        return json.loads(out.splitlines()[-1]), out

    return call


def _files(tmp_path, name):
    """Config and checkpoint of a model; student and teacher differ."""
    model = dict(MODELS[name](), data_preprocessor=PREPROCESSOR)
    cfg = Config(dict(default_scope='mmdense', model=model))
    cfg.randomness = dict(seed=4)
    built = build_model(cfg, seed=1)
    method = built.method if name == 'selfpatch' else built
    torch.manual_seed(2)
    with torch.no_grad():
        for part in (method.backbone, method.teacher.backbone):
            for weight in part.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
    config, checkpoint = tmp_path / f'{name}.py', tmp_path / 'epoch_1.pth'
    cfg.dump(config)
    torch.save({'state_dict': built.state_dict(), 'meta': {}}, checkpoint)
    return method, config, checkpoint


def _reference(backbone, stride, size, limit):
    """The same score, image by image and patch by patch."""
    backbone = backbone.eval()
    sides = []
    for split in ('train', 'val'):
        paths = sorted((ROOMS / split).glob('*.jpg'))
        x, y = [], []
        for i in range(limit):
            path = paths[i * len(paths) // limit]
            image = np.asarray(Image.open(path).convert('RGB'), np.float32)
            label = ROOMS / 'semantic' / split / f'{path.stem}.png'
            labels = np.asarray(Image.open(label))
            assert labels.shape == size
            image = (image - np.array(MEAN)) / np.array(STD)
            pixels = torch.from_numpy(image).permute(2, 0, 1).float()
            with torch.no_grad():
                tokens = as_tokens(backbone(pixels[None])[-1])
            x.append(tokens.patches[0])
            y.append([])
            for top in range(0, size[0], stride):
                for left in range(0, size[1], stride):
                    cell = labels[top : top + stride, left : left + stride]
                    ids, counts = np.unique(cell, return_counts=True)
                    y[-1].append(int(ids[counts.argmax()]))
        sides += [torch.stack(x), torch.tensor(y)]
    return patch_retrieval(*sides)


@pytest.mark.parametrize('branch', [None, 'student'])
@pytest.mark.parametrize('name', ['vit', 'selfpatch'])
def test_main__scores_the_weights_of_the_file(tmp_path, run, name, branch):
    method, config, checkpoint = _files(tmp_path, name)
    options = ['--branch', branch] if branch else []
    result, out = run(
        config, checkpoint, '--limit', 6, '--random', 4, 5, *options
    )
    part = method if branch else method.teacher
    wanted = _reference(part.backbone, 16, (240, 320), 6)
    # rounded to 4 digits; a vote between equals may go either way
    for key in ('accuracy', 'mean_class_accuracy'):
        assert result['trained'][key] == pytest.approx(
            getattr(wanted, key), abs=2e-3
        )
    assert result['patches'] == wanted.patches == 6 * 15 * 20
    assert result['grid'] == [15, 20]
    assert set(result['untrained']) == {'4', '5'}
    scores = [result['trained'], *result['untrained'].values()]
    assert len({score['accuracy'] for score in scores}) == 3
    assert 'untrained, seed 5' in out and 'epoch_1.pth' in out


def test_main__untrained_is_the_start_of_the_config(tmp_path, run, tool):
    _, config, checkpoint = _files(tmp_path, 'vit')
    result, _ = run(config, checkpoint, '--limit', 3)
    assert list(result['untrained']) == ['4']  # randomness.seed
    cfg = Config.fromfile(config)
    torch.manual_seed(4)
    start = tool.build_backbone(tool.backbone_config(cfg), 4)
    wanted = _reference(start, 16, (240, 320), 3)
    assert result['untrained']['4']['accuracy'] == pytest.approx(
        wanted.accuracy, abs=2e-3
    )
    result, out = run(config, checkpoint, '--limit', 3, '--random')
    assert result['untrained'] == {} and 'untrained, seed' not in out


def test_main__swin_on_whole_patches(tmp_path, run):
    _, config, checkpoint = _files(tmp_path, 'swin')
    result, out = run(config, checkpoint, '--limit', 4)
    # 240 is no multiple of 32
    assert result['grid'] == [8, 10] and '256x320' in out
    assert 0 < result['trained']['accuracy'] < 1
    assert result['trained'] != result['untrained']['4']


def test_main__labels_of_255_are_left_out(tmp_path, run):
    _, config, checkpoint = _files(tmp_path, 'vit')
    for split, images in (('train', 3), ('val', 2)):
        for folder in (tmp_path / split, tmp_path / 'semantic' / split):
            folder.mkdir(parents=True)
        for i in range(images):
            pixels = np.random.RandomState(i).randint(0, 255, (32, 48, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(
                tmp_path / split / f'{i}.png'
            )
            labels = np.full((32, 48), 255, np.uint8)
            labels[:16, : 16 * (i + 1)] = 3
            path = tmp_path / 'semantic' / split / f'{i}.png'
            Image.fromarray(labels).save(path)
    result, _ = run(config, checkpoint, '--data-root', tmp_path)
    assert result['patches'] == 1 + 2
    assert result['trained']['accuracy'] == result['most_frequent'] == 1


@pytest.mark.parametrize(
    'options, message',
    [
        (['--data-root', 'nowhere'], 'No images in nowhere'),
        (['--size', '240', '330'], 'multiples of 16'),
        (['--data-root', str(ROOMS.parent / 'photos')], 'No images in'),
    ],
)
def test_main__says_what_is_wrong(tmp_path, run, capsys, options, message):
    _, config, checkpoint = _files(tmp_path, 'vit')
    with pytest.raises(SystemExit) as stop:
        run(config, checkpoint, '--limit', 2, *options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_main__other_architecture_is_refused(tmp_path, run, capsys):
    _, config, _ = _files(tmp_path, 'vit')
    other = tmp_path / 'other'
    other.mkdir()
    _, _, checkpoint = _files(other, 'swin')
    with pytest.raises(SystemExit):
        run(config, checkpoint, '--limit', 2)
    assert 'holds a swin backbone' in capsys.readouterr().err
