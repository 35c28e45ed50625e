import copy
import os
import subprocess
import sys

import pytest
from mmengine.config import Config

import mmdense  # noqa: F401
from mmdense.apis import running
from mmdense.registry import toolbox_installed
from mmdense.results.config_hash import (
    config_hash,
    initial_weights,
    read_config_text,
    train_data,
)
from mmdense.testing.launch import ROOT
from mmdense.utils.model_settings import forget_initial_weights

BENCHMARKS = ROOT / 'configs/local_global/benchmarks'
LINEAR = (
    BENCHMARKS
    / 'linear_vit-small-p16_local-global-300e-pre_8xb2-64e_ade20k-512x512.py'
)
DEPTH = (
    BENCHMARKS / 'uper-depth_vit-demo-p16_local-global-70e-pre_1xb8-20e_'
    'rooms-160x160.py'
)
needs_mmseg = pytest.mark.skipif(
    not toolbox_installed('mmseg'), reason='mmseg is not installed'
)
pytestmark = needs_mmseg


@pytest.fixture(scope='module')
def cfg():
    return Config.fromfile(str(LINEAR))


def changed(cfg, **options):
    other = copy.deepcopy(cfg)
    other.merge_from_dict(options)
    return other


@pytest.mark.parametrize(
    'options',
    [
        {'work_dir': '/somewhere/else'},
        {'train_dataloader.dataset.data_root': '/data/ade'},
        {'test_dataloader.dataset.data_root': '/data/ade'},
        {'train_dataloader.num_workers': 0},
        {'train_dataloader.batch_size': 16},
        {'optim_wrapper.accumulative_counts': 8},
        {'model.backbone.init_cfg.checkpoint': '/home/me/other.pth'},
        {'model.backbone.init_cfg': None},
        {'randomness': {'seed': 3}},
        {'default_hooks.logger.interval': 1},
        {'visualizer': None},
        {'train_dataloader.dataset.data_root': '/other/ade10percent'},
        # a run that goes on from its own checkpoint
        {'load_from': '/tmp/x.pth', 'resume': True},
        {'test_evaluator.outfile_prefix': '/tmp/x'},
        {'benchmark.pretraining.epochs': 1},
    ],
    ids=str,
)
def test_hash__is_not_of_the_machine(cfg, options):
    assert config_hash(changed(cfg, **options)) == config_hash(cfg)


@pytest.mark.parametrize(
    'options',
    [
        {'optim_wrapper.optimizer.lr': 1e-3},
        {'model.backbone.drop_path_rate': 0.3},
        {'train_cfg.max_iters': 7},
        {'train_dataloader.dataset.data_prefix.img_path': 'images/few'},
        {'train_dataloader.dataset.data_prefix.img_path': 'few/training'},
        {'train_dataloader.drop_last': True},
        {'model.pretrained': 'open-mmlab://resnet50'},
        {'model.decode_head.init_cfg': {'type': 'Normal', 'std': 1.0}},
        {'custom_hooks': [{'type': 'EMAHook'}]},
        {'default_hooks.ema': {'type': 'EMAHook'}},
    ],
    ids=str,
)
def test_hash__is_of_the_recipe(cfg, options):
    other = changed(cfg, **options)
    assert config_hash(other) != config_hash(cfg)
    assert config_hash(other, test=False) != config_hash(cfg, test=False)


def test_hash__scale_and_shift_are_of_the_starting_weights():
    folder = ROOT / 'configs/dpt/benchmarks'
    given = {
        'model.decode_head.scale': 0.1,
        'model.decode_head.shift': 0.02,
    }
    metric = Config.fromfile(str(next(folder.glob('dpt_*-20e_nyu*.py'))))
    released = Config.fromfile(str(next(folder.glob('dpt_*-0e_nyu*.py'))))
    for test in (True, False):
        wanted = config_hash(metric, test)
        assert config_hash(changed(metric, **given), test) == wanted
        # where nothing is trained they are all there is
        wanted = config_hash(released, test)
        assert config_hash(changed(released, **given), test) != wanted


def test_hash__of_a_run_that_goes_on_keeps_its_start(cfg):
    begun = changed(cfg, load_from='work_dirs/x/iter_9.pth')
    on = changed(
        cfg,
        load_from='work_dirs/y/iter_3.pth',
        resume=True,
        started_from='work_dirs/x/iter_9.pth',
    )
    assert config_hash(on, test=False) == config_hash(begun, test=False)
    assert config_hash(on, test=False) != config_hash(cfg, test=False)


def test_hash__of_training_leaves_the_test_out(cfg):
    other = changed(cfg, **{'test_cfg.fp16': True})
    assert config_hash(other) != config_hash(cfg)
    assert config_hash(other, test=False) == config_hash(cfg, test=False)


@pytest.mark.parametrize(
    'options',
    [
        {'load_from': '/tmp/x.pth'},
        {'model.init_cfg': {'type': 'Pretrained', 'checkpoint': 'x.pth'}},
        {
            'model.decode_head.init_cfg': {
                'type': 'Pretrained',
                'checkpoint': 'x.pth',
            }
        },
    ],
    ids=str,
)
def test_hash__of_training_has_weights_loaded_beside_the_backbones(
    cfg, options
):
    other = changed(cfg, **options)
    assert config_hash(other, test=False) != config_hash(cfg, test=False)
    # a test sets these anew
    assert config_hash(other) == config_hash(cfg)


def test_hash__absolute_prefixes_are_of_the_machine(cfg):
    key = 'train_dataloader.dataset.data_prefix.img_path'
    here, there = (
        changed(cfg, **{key: f'{root}/ade/images'}) for root in ('/a', '/b')
    )
    assert config_hash(here) == config_hash(there) != config_hash(cfg)
    slash = changed(cfg, **{key: 'images/training/'})
    assert config_hash(slash) == config_hash(cfg)


def test_train_data__is_the_last_part_of_the_data_root(cfg):
    assert train_data(cfg) == 'ADEChallengeData2016'
    other = changed(
        cfg, **{'train_dataloader.dataset.data_root': '/a/coco10percent/'}
    )
    assert train_data(other) == 'coco10percent'
    assert train_data({'model': {}}) is None


def test_hash__paths_of_another_machine():
    here = {'test_evaluator': {'ann_file': 'data/coco/annotations/val.json'}}
    there = {'test_evaluator': {'ann_file': 'D:\\coco\\val.json'}}
    other = {'test_evaluator': {'ann_file': 'data/coco/annotations/x.json'}}
    assert config_hash(here) == config_hash(there) != config_hash(other)


def test_hash__same_in_another_process_and_folder(cfg, tmp_path):
    code = (
        'import sys, mmdense; from mmengine.config import Config; '
        'from mmdense.results.config_hash import config_hash; '
        'print("HASH", config_hash(Config.fromfile(sys.argv[1])))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(LINEAR)],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONHASHSEED': '7', 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == config_hash(cfg)


@pytest.mark.parametrize('path', [LINEAR, DEPTH], ids=lambda p: p.stem[:20])
def test_hash__tools_do_not_change_it(path):
    cfg = Config.fromfile(str(path))
    tested = copy.deepcopy(cfg)
    running.set_work_dir(tested, str(path))
    running.set_loader_defaults(tested)
    forget_initial_weights(tested.model)
    running.add_hook(tested, 'mmdense.ResultRowHook')
    assert config_hash(tested) == config_hash(cfg)
    trained = copy.deepcopy(cfg)
    running.set_work_dir(trained, str(path))
    running.set_loader_defaults(trained)
    running.drop_hooks_of_none(trained)
    running.add_training_hooks(trained)
    assert config_hash(trained, test=False) == config_hash(cfg, test=False)
    # what a checkpoint carries
    read = read_config_text(trained.pretty_text)
    assert config_hash(read, test=False) == config_hash(cfg, test=False)
    assert initial_weights(read) == initial_weights(cfg)


def test_config_text__runs_nothing(tmp_path):
    mark = tmp_path / 'mark'
    text = f"a = __import__('pathlib').Path({str(mark)!r}).touch()\n"
    assert read_config_text(text) is None
    assert read_config_text('import os\na = 1\n') is None
    assert not mark.exists()
    assert read_config_text(None) is None
    assert read_config_text("m = dict({'a-b': 1}, c=(1, -2.5), d=None)") == {
        'm': {'a-b': 1, 'c': [1, -2.5], 'd': None}
    }


def test_initial_weights__of_the_backbone(cfg):
    assert initial_weights(cfg) == (
        'work_dirs/exports/local-global_vit-small-p16.pth'
    )
    assert initial_weights({'model': {'type': 'x'}}) is None
