"""The depth configs train and are scored, with everything made small."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)
from mmdense.registry import MODELS

pytest.importorskip('mmseg')

ROOT = Path(__file__).parents[3]
BENCHMARKS = ROOT / 'configs' / 'local_global' / 'benchmarks'
NYU = sorted(BENCHMARKS.glob('*_nyu-*.py'))
DEMO = BENCHMARKS / (
    'uper-depth_vit-demo-p16_local-global-70e-pre_1xb8-20e_rooms-160x160.py'
)
WIDTHS = {'tiny': 192, 'small': 384, 'base': 768}
ARCH = dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=24)


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope='session')
def nyu_root(tmp_path_factory):
    h5py = pytest.importorskip('h5py')
    root = tmp_path_factory.mktemp('nyudepthv2')
    rng = np.random.RandomState(0)
    for name in ('train/room/00006', 'train/room/00011', 'val/official/00001'):
        path = root / f'{name}.h5'
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, 'w') as file:
            small = rng.randint(0, 256, (3, 48, 64)).astype(np.uint8)
            file['rgb'] = small.repeat(10, 1).repeat(10, 2)
            depth = rng.uniform(0.8, 9, (48, 64)).astype(np.float32)
            file['depth'] = depth.repeat(10, 0).repeat(10, 1)
    return root


def shrink(cfg, work_dir, batch=2, iters=2):
    """A few iterations of the config on a ViT of four narrow layers."""
    cfg.work_dir = str(work_dir)
    backbone, head = cfg.model.backbone, cfg.model.decode_head
    backbone.arch = ARCH
    backbone.init_cfg.checkpoint = None
    width = ARCH['embed_dims']
    if 'neck' in cfg.model:
        backbone.out_indices = [0, 1, 2, 3]
        cfg.model.neck.embed_dim = width
        head.update(in_channels=[width] * 4, channels=8)
    else:
        backbone.out_indices = [3]
        head.update(in_channels=width, channels=[8, 8, 4, 4])
    for name in ('train', 'val', 'test'):
        loader = cfg[f'{name}_dataloader']
        loader.update(batch_size=batch, num_workers=0)
        loader.persistent_workers = False
        loader.dataset.indices = batch * iters if name == 'train' else batch
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.pop('save_best', None)
    return cfg


def train(cfg):
    runner = Runner.from_cfg(cfg)
    before = {k: v.clone() for k, v in runner.model.state_dict().items()}
    runner.train()
    hub = runner.message_hub
    scalars = {k: hub.get_scalar(k).current() for k in hub.log_scalars}
    moved = [
        k
        for k, v in runner.model.state_dict().items()
        if v.is_floating_point() and not torch.equal(v, before[k])
    ]
    return runner, scalars, moved


def test_depth_training__two_iterations_on_rooms(tmp_path):
    cfg = shrink(Config.fromfile(DEMO), tmp_path)
    runner, scalars, moved = train(cfg)
    assert runner.iter == 2
    assert np.isfinite(scalars['train/loss'])
    assert scalars['train/loss'] == pytest.approx(
        scalars['train/decode.loss_berhu']
        + scalars['train/decode.loss_gradient']
    )
    assert 'decode_head.conv_depth.weight' in moved
    assert any(key.startswith('backbone.layers.0') for key in moved)
    assert 0 < scalars['val/depth/abs_rel'] < 10
    assert scalars['val/depth/images'] == 2


def test_depth_training__test_restores_the_original_size(tmp_path):
    cfg = shrink(Config.fromfile(DEMO), tmp_path)
    runner = Runner.from_cfg(cfg)
    batch = next(iter(runner.val_dataloader))
    model = runner.model.eval()
    with torch.no_grad():
        samples = model.test_step(batch)
    for sample in samples:
        assert tuple(batch['inputs'][0].shape) == (3, 160, 224)
        assert tuple(sample.pred_depth_map.data.shape) == (1, 240, 320)
        assert tuple(sample.gt_depth_map.data.shape) == (1, 240, 320)


@pytest.mark.parametrize('head', ['upproj', 'uper-depth'])
@pytest.mark.parametrize('data', ['nyu-fastdepth', 'nyu-bts'])
def test_depth_training__nyu_protocols(head, data, nyu_root, tmp_path):
    (path,) = [
        p
        for p in NYU
        if p.name.startswith(f'{head}_vit-small') and data in p.name
    ]
    cfg = shrink(Config.fromfile(path), tmp_path, batch=1, iters=2)
    # batch normalisation of 1x1 pooled maps needs two images
    cfg.train_dataloader.batch_size = 2
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.data_root = str(nyu_root)
    _, scalars, moved = train(cfg)
    protocol = {'nyu-bts': 'nyu_eigen'}.get(data, 'fastdepth')
    assert np.isfinite(scalars['train/loss'])
    assert 0 < scalars[f'val/{protocol}/abs_rel'] < 10
    assert scalars[f'val/{protocol}/images'] == 1
    assert 'decode_head.conv_depth.bias' in moved


def test_depth_configs__all_rows_are_there():
    assert len(NYU) == 12
    for head in ('upproj', 'uper-depth'):
        for size in WIDTHS:
            for data in ('nyu-fastdepth-224x224', 'nyu-bts-416x544'):
                (BENCHMARKS / (
                    f'{head}_vit-{size}-p16_local-global-300e-pre_'
                    f'1xb16-50e_{data}.py'
                )).resolve(strict=True)  # fmt: skip


@pytest.mark.parametrize('path', NYU, ids=lambda p: p.stem)
def test_depth_configs__say_what_their_name_says(path):
    cfg = Config.fromfile(path)
    match = re.fullmatch(
        r'(upproj|uper-depth)_vit-(\w+)-p16_local-global-300e-pre_'
        r'(\d+)xb(\d+)-(\d+)e_nyu-(fastdepth|bts)-(\d+)x(\d+)',
        path.stem,
    )
    head, size, gpus, batch, epochs, recipe, height, width = match.groups()
    model, dim = cfg.model, WIDTHS[size]
    assert model.backbone.arch == f'deit-{size}'
    assert model.backbone.init_cfg.checkpoint.endswith(
        f'local-global_vit-{size}-p16.pth'
    )
    if head == 'upproj':
        assert model.decode_head.type == 'mmdense.UpProjDepthHead'
        assert model.decode_head.in_channels == dim
        assert model.backbone.out_indices == [11]
    else:
        assert model.decode_head.type == 'mmdense.UPerDepthHead'
        assert model.decode_head.in_channels == [dim] * 4
        assert model.neck.embed_dim == dim
        assert model.backbone.out_indices == [3, 5, 7, 11]
    assert cfg.train_dataloader.batch_size == int(batch)
    assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch)
    assert cfg.train_cfg.max_epochs == int(epochs)
    assert cfg.default_scope == 'mmdense'
    assert model.data_preprocessor.seg_pad_val == 0
    assert cfg.optim_wrapper.optimizer == dict(type='Adam', lr=1e-4)
    protocol = {'bts': 'nyu_eigen'}.get(recipe, recipe)
    assert cfg.val_evaluator.protocol == protocol
    assert cfg.default_hooks.checkpoint.save_best == f'{protocol}/abs_rel'
    sizes = [
        tuple(s.get('scale', s.get('crop_size', ())))
        for s in cfg.train_dataloader.dataset.pipeline
    ]
    assert (int(height), int(width)) in sizes


@pytest.mark.parametrize('head', ['upproj', 'uper-depth'])
def test_depth_configs__build(head):
    (path,) = [
        p for p in NYU if f'{head}_vit-tiny' in p.name and 'bts' in p.name
    ]
    cfg = Config.fromfile(path).model
    cfg.backbone.init_cfg.checkpoint = None
    model = MODELS.build(cfg).eval()
    with torch.no_grad():
        depth = model(torch.randn(1, 3, 64, 96), mode='tensor')
    scale = 1 if head == 'upproj' else 4
    assert tuple(depth.shape) == (1, 1, 64 // scale, 96 // scale)
