import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmdense.datasets import SeededSampler

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs' / '_base_' / 'datasets'


def test_demo__loads_a_batch(monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = Config.fromfile(str(CONFIGS / 'demo_two_view.py'))
    init_default_scope('mmdense')
    loader = dict(cfg.train_dataloader)
    loader.update(batch_size=4, num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(loader, seed=0)
    assert len(loader.dataset) == 231 + 160 + 48
    assert isinstance(loader.sampler, SeededSampler)
    batch = next(iter(loader))
    assert [v.shape for v in batch['inputs']] == [(4, 3, 96, 96)] * 2
    assert batch['inputs'][0].dtype == torch.uint8


def test_folder__takes_paths_from_the_command_line(tmp_path):
    cfg = Config.fromfile(str(CONFIGS / 'folder_two_view.py'))
    cfg.merge_from_dict({'train_dataloader.dataset.paths': ['a', 'b']})
    assert cfg.train_dataloader.dataset.paths == ['a', 'b']
    assert cfg.train_dataloader.dataset.data_root == ''
    assert cfg.train_dataloader.sampler.type == 'mmdense.SeededSampler'


def test_imagenet__is_the_recipe():
    cfg = Config.fromfile(str(CONFIGS / 'imagenet_two_view.py'))
    loader = cfg.train_dataloader
    assert loader.batch_size == 128 and loader.num_workers == 8
    view = loader.dataset.pipeline[0]['views'][0]
    assert view['num'] == 2 and view['size'] == 224
    assert view['brightness'] == 0.8 and view['hue'] == 0.2


@pytest.mark.slow
def test_benchmark_loader__compares_and_names_the_bottleneck(tmp_path):
    out = tmp_path / 'numbers.json'
    command = [
        sys.executable,
        str(ROOT / 'tools' / 'analysis_tools' / 'benchmark_loader.py'),
        str(CONFIGS / 'imagenet_two_view.py'),
        *['--source-size', '500x375', '--samples', '4', '--rounds', '1'],
        *['--out', str(out)],
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert 'bottleneck: ' in done.stdout
    (result,) = json.loads(out.read_text()).values()
    assert result['ratios']['stock'] > 0
    for name in ('stock', 'mmdense'):
        assert result['rates'][name] > 0
        stages = result['stages'][name]
        assert min(stages[s] for s in ('decode', 'crop', 'pack')) > 0


def benchmark_loader():
    path = ROOT / 'tools' / 'analysis_tools' / 'benchmark_loader.py'
    spec = importlib.util.spec_from_file_location('benchmark_loader', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_benchmark_loader__goes_on_without_lightly(monkeypatch, capsys):
    module = benchmark_loader()
    monkeypatch.setitem(sys.modules, 'lightly', None)
    monkeypatch.chdir(ROOT)
    cfg = Config.fromfile(str(CONFIGS / 'demo_multi_crop.py'))
    init_default_scope('mmdense')
    pipeline = list(cfg.train_dataloader.dataset.pipeline)
    photos = str(ROOT / 'demo' / 'data' / 'photos')
    datasets = module.make_datasets(photos, pipeline, ['lightly'])
    assert list(datasets) == ['mmdense']
    assert 'requirements/peers.txt' in capsys.readouterr().out
    (ROOT / 'requirements' / 'peers.txt').read_text()


def test_benchmark_loader__lightly_makes_the_same_views(monkeypatch):
    pytest.importorskip('lightly', reason='an optional peer')
    module = benchmark_loader()
    cfg = Config.fromfile(str(CONFIGS / 'imagenet_multi_crop.py'))
    init_default_scope('mmdense')
    pipeline = list(cfg.train_dataloader.dataset.pipeline)
    photos = str(ROOT / 'demo' / 'data' / 'photos')
    datasets = module.make_datasets(photos, pipeline, ['lightly'])
    theirs = datasets['lightly'][0]['inputs']
    ours = datasets['mmdense'][0]['inputs']
    assert [v.shape for v in theirs] == [v.shape for v in ours]
    chains = [t.transform for t in datasets['lightly'].transform.transforms]
    for chain, blur, solarize, scale in zip(
        chains[:3],
        (1.0, 0.1, 0.5),
        (0.0, 0.2, 0.0),
        ((0.25, 1.0), (0.25, 1.0), (0.05, 0.25)),
    ):
        steps = {type(step).__name__: step for step in chain.transforms}
        assert steps['RandomResizedCrop'].scale == scale
        assert steps['GaussianBlur'].prob == blur
        assert steps['GaussianBlur'].sigmas == (0.1, 2.0)
        assert steps['RandomSolarization'].prob == solarize
        (jitter,) = steps['RandomApply'].transforms
        assert tuple(jitter.brightness) == pytest.approx((0.6, 1.4))
        assert tuple(jitter.saturation) == pytest.approx((0.8, 1.2))
        assert tuple(jitter.hue) == pytest.approx((-0.1, 0.1))


def test_benchmark_loader__stock_chain_has_the_same_distributions():
    module = benchmark_loader()
    from mmdense.datasets.transforms import ViewPolicy

    policy = ViewPolicy(
        solarize_prob=0.2, num=2, hue=0.1, interpolation='bilinear'
    )
    _, views, _ = module.stock_pipeline([policy])
    crop, flip, jitter, gray, blur, solarize = views['transforms'][0]
    assert views['num_views'] == [2]
    assert crop['crop_ratio_range'] == (0.08, 1.0)
    assert crop['interpolation'] == 'bilinear'
    assert jitter['transforms'][0]['hue'] == 0.1 and jitter['prob'] == 0.8
    assert (flip['prob'], gray['prob'], blur['prob']) == (0.5, 0.2, 0.5)
    assert solarize == dict(type='mmpretrain.Solarize', thr=128, prob=0.2)
