"""The BinsFormer configs of SemCL against the published recipe."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope

from mmdense.testing.launch import ROOT
from mmdense.testing.tiny import build_model, tiny_config

FOLDER = ROOT / 'configs' / 'semcl' / 'benchmarks'
CONFIGS = sorted(FOLDER.glob('binsformer_*-38.4k_*.py'))
every_config = pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
RANGE = {'cityscapes': 200.0, 'kitti': 80.0, 'nyu': 10.0}


def _data(path):
    return path.stem.rsplit('_', 1)[1].split('-')[0]


def test_configs__three_backbones_and_three_data_sets_twice():
    assert len([p for p in CONFIGS if '_semcl-' in p.name]) == 9
    assert len([p for p in CONFIGS if '_semcl-' not in p.name]) == 10


@every_config
def test_model__is_that_of_the_toolbox(path):
    model = Config.fromfile(str(path)).model
    head = model.decode_head
    assert (head.num_queries, head.level_order) == (64, '//')
    assert head.pixel_start == 'stride16'
    assert head.max_depth == RANGE[_data(path)]
    # what is not scored does not train
    assert head.valid_range == (1e-3, RANGE[_data(path)])
    assert head.scene_classes == (25 if _data(path) == 'nyu' else None)
    assert head.channels == (512 if 'swin-large' in path.name else 256)
    assert head.loss_decode.loss_weight == 10.0
    if 'swin' in path.name:
        assert model.backbone.drop_path_rate == 0.3
    assert model.test_cfg.flip
    assert model.data_preprocessor.seg_pad_val == 0


@pytest.mark.parametrize('backbone', ['resnet50', 'swin-tiny-w7'])
def test_optimiser__decays_neither_norms_nor_position_tables(backbone):
    name = f'binsformer_{backbone}_semcl-city-30k-pre_8xb2-38.4k_kitti*'
    cfg = tiny_config(Config.fromfile(str(next(FOLDER.glob(name)))))
    model = build_model(cfg)
    with DefaultScope.overwrite_default_scope('mmdense'):
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(p): n for n, p in model.named_parameters()}
    norms = {
        f'{name}.{kind}'
        for name, module in model.named_modules()
        if 'norm' in type(module).__name__.lower()
        for kind in ('weight', 'bias')
    }
    free = set()
    for group in wrapper.optimizer.param_groups:
        assert group['lr'] == pytest.approx(1e-4)
        for parameter in group['params']:
            name = names[id(parameter)]
            plain = name in norms or 'position_bias_table' in name
            assert group['weight_decay'] == (0.0 if plain else 0.01), name
            free |= {name} if plain else set()
    assert len(free) > 20
    assert wrapper.clip_grad_kwargs['max_norm'] == 35


def test_schedule__one_cycle_peaks_after_30_per_cent():
    cfg = Config.fromfile(str(CONFIGS[0]))
    (settings,) = cfg.param_scheduler
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=1e-4)
    with DefaultScope.overwrite_default_scope('mmdense'):
        scheduler = PARAM_SCHEDULERS.build(
            {**settings, 'optimizer': optimizer}
        )
    rates = []
    for _ in range(cfg.train_cfg.max_iters):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    peak = max(range(len(rates)), key=rates.__getitem__)
    assert abs(peak - 0.3 * 38400) <= 1
    assert rates[0] == pytest.approx(1e-4 / 25)
    assert max(rates) == pytest.approx(1e-4)
    assert rates[-1] == pytest.approx(1e-4 / 25 / 100, rel=1e-3)
