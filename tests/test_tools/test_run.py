"""From pre-training to a result row, interrupted wherever it can be."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmdense.registry import toolbox_installed
from mmdense.results.config_hash import config_hash
from mmdense.results.rows import file_hash
from mmdense.testing.launch import ROOT
from mmdense.utils.errors import UserError

CONFIGS = ROOT / 'configs' / 'local_global'
PRETRAIN = next(CONFIGS.glob('local-global_vit-demo-*.py'))
SEG = next(CONFIGS.glob('benchmarks/linear_vit-demo-*_rooms-*.py'))
SMALL = [
    'train_cfg.max_epochs=4',
    'train_cfg.val_interval=4',
    'train_dataloader.dataset.indices=16',
    'default_hooks.checkpoint.interval=1',
    'default_hooks.logger.interval=1',
    *(
        f'{part}_dataloader.{key}'
        for part in ('train', 'val', 'test')
        for key in ('num_workers=0', 'persistent_workers=False')
    ),
    'val_dataloader.dataset.indices=4',
    'test_dataloader.dataset.indices=4',
]


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """``main`` of the tool, in a folder with the demo data."""
    path = ROOT / 'tools' / 'benchmarks' / 'run.py'
    spec = importlib.util.spec_from_file_location('run_tool', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / 'demo').symlink_to(ROOT / 'demo')
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr('sys.argv', ['run.py', *map(str, words)])
        module.main()

    call.module = module
    return call


def _pretrained(folder):
    folder.mkdir(parents=True)
    model = Config.fromfile(PRETRAIN).model
    with DefaultScope.overwrite_default_scope('mmdense'):
        state = MODELS.build(model).state_dict()
    path = folder / 'epoch_70.pth'
    torch.save({'state_dict': state, 'meta': {'epoch': 70}}, path)
    return path


@pytest.mark.slow
def test_run__interrupted_at_each_stage(tool, tmp_path, monkeypatch, capsys):
    if not toolbox_installed('mmseg'):
        pytest.skip('mmseg is not installed')
    source = _pretrained(tmp_path / 'pre, training')
    # names that options of a command line would split and strip
    words = [SEG, '--weights', source, '--work-dir', 'w, 1']
    words += ['--cfg-options', *SMALL]
    work = tmp_path / 'w, 1'
    run_stages = tool.module.run_stages

    def stop_after(name):
        def wrapped(stages, *args, **settings):
            # a command that is left running keeps the lock
            held = os.fstat(settings['held'][0])
            assert held.st_ino == (work / 'lock').stat().st_ino
            run_stages(stages, *args, **settings)
            if stages[0].name == name:
                raise KeyboardInterrupt

        return wrapped

    def interrupted(name):
        monkeypatch.setattr(tool.module, 'run_stages', stop_after(name))
        with pytest.raises(SystemExit) as info:
            tool(*words)
        assert info.value.code == 130
        return capsys.readouterr().out

    assert 'export: done in' in interrupted('export')
    # in the middle of the training: the first epoch is there
    from mmdense.apis import stages

    progress = stages.Stage.progress

    def stop_in_second_epoch(stage):
        # one that is half written would be passed over
        if zipfile.is_zipfile(work / 'train' / 'epoch_1.pth'):
            raise KeyboardInterrupt
        return progress(stage)

    def impatient(items, *args, **settings):
        run_stages(items, *args, **{**settings, 'every': 0})

    with monkeypatch.context() as patch:
        patch.setattr(stages.Stage, 'progress', stop_in_second_epoch)
        patch.setattr(tool.module, 'run_stages', impatient)
        with pytest.raises(SystemExit):
            tool(*words)
    shown = capsys.readouterr().out
    assert 'export: already done' in shown
    assert not (work / 'train' / 'done.json').exists()
    shown = interrupted('fine-tuning')
    assert 'fine-tuning: done in' in shown
    log = (work / 'train' / 'log.txt').read_text()
    assert re.search(r'resumed epoch: [123],', log)
    shown = interrupted('test')
    assert shown.count('already done') == 2 and 'test: done in' in shown
    monkeypatch.setattr(tool.module, 'run_stages', run_stages)
    tool(*words)
    shown = capsys.readouterr().out
    assert shown.count('already done') == 3
    row = json.loads(shown[shown.index('{\n') :])
    rows = list((work / 'test' / 'results').glob('*.json'))
    assert len(rows) == 1
    assert row['config'] == SEG.stem
    assert row['config_path'] == SEG.relative_to(ROOT).as_posix()
    cfg = Config.fromfile(SEG)
    tool.module.merge_options(cfg, SMALL)
    assert row['config_hash'] == config_hash(cfg)
    assert row['training_hash'] == config_hash(cfg, test=False)
    assert row['weights_hash'] == file_hash(work / 'train' / 'epoch_4.pth')
    exported = work / 'export' / 'backbone.pth'
    assert row['initial_weights'] == str(exported)
    assert row['initial_weights_hash'] == file_hash(exported)
    # the file does not say what it is of
    assert row['pretraining'] == dict(checkpoint=str(source), method=None)
    assert row['steps'] == 8 and row['finished'] is True
    log = (work / 'test' / 'log.txt').read_text()
    tested = re.findall(r'mIoU: ([\d.]+)', log)
    assert row['metric'] == 'mIoU' and row['value'] == float(tested[-1])
    rows[0].unlink()
    tool(*words)
    shown = capsys.readouterr().out
    assert shown.count('already done') == 2 and 'test: done in' in shown
    # nothing was written where other runs would find it
    assert not (tmp_path / 'work_dirs').exists()


def _plan(text):
    """Stage -> (state, command words) of a dry run."""
    found = re.findall(r'# (.*): (done|to run)\n(.*)\n', text)
    return {name: (state, shlex.split(line)) for name, state, line in found}


def test_dry_run__commands_and_missing_weights(tool, capsys, tmp_path):
    with pytest.raises(SystemExit) as info:
        tool(SEG.stem, '--dry-run')
    shown = capsys.readouterr()
    assert info.value.code == 2
    assert f'{PRETRAIN.stem}.py --resume' in shown.err
    plan = _plan(shown.out)
    assert list(plan) == ['fine-tuning', 'test']
    assert plan['fine-tuning'][0] == 'to run'
    assert f'{tmp_path}/work_dirs/{SEG.stem}/train' in plan['fine-tuning'][1]
    assert not (tmp_path / 'work_dirs').exists()
    torch.save({'state_dict': {}}, tmp_path / 'x.pth')
    tool(SEG, '--weights', 'x.pth', '--dry-run', '--work-dir', 'w')
    plan = _plan(capsys.readouterr().out)
    assert list(plan) == ['export', 'fine-tuning', 'test']
    assert str(tmp_path / 'x.pth') in plan['export'][1]


def test_dry_run__processes_of_the_recipe(tool, tmp_path, capsys):
    torch.save({'state_dict': {}}, tmp_path / 'x.pth')
    words = [SEG, '--weights', 'x.pth', '--dry-run', '--cfg-options']
    words += ['auto_scale_lr.base_batch_size=16']
    tool(*words, '--launcher', 'pytorch')
    shown = capsys.readouterr().out
    words_of = _plan(shown)['fine-tuning'][1]
    assert words_of[words_of.index('--work-dir') - 1] == '2'
    assert 'note: 1 process' not in shown
    tool(*words)
    assert 'a batch of 8, the recipe has 16' in capsys.readouterr().out


@pytest.mark.parametrize(
    'words,error',
    [
        (['no/config.py'], 'No config file'),
        ([SEG.stem[:-3]], 'no config file and no config of the zoo (near'),
        ([SEG, '--gpus', '0'], '--gpus is 1 or more'),
        ([SEG, '--work-dir', str(SEG)], 'is a file, not a folder'),
        ([SEG, '--cfg-options', 'foo'], "takes key=value, not 'foo'"),
        (
            [SEG, '--cfg-options', 'train_cfg.max_epochs.x=1'],
            'cannot be merged',
        ),
        ([SEG, '--cfg-options', 'model=3'], 'model=3'),
        ([SEG, '--cfg-options', 'model.backbone=3'], 'model.backbone=3'),
        ([PRETRAIN], 'no fine-tuning config'),
        ([SEG, '--launcher', 'slurm'], '--partition'),
        ([SEG, '--gpus', '2'], '--launcher'),
        ([SEG, '--weights', 'no.pth'], 'No checkpoint at no.pth'),
    ],
)
def test_run__mistakes_are_explained(tool, words, error, capsys):
    with pytest.raises(SystemExit) as info:
        tool(*words)
    assert info.value.code == 2
    assert error in capsys.readouterr().err


def test_run__row_of_a_table(tool, monkeypatch):
    from mmdense.results import zoo

    found = []
    monkeypatch.setattr(zoo, 'configs_of_row', lambda key: found)
    find = tool.module.find_config
    with pytest.raises(ValueError, match='--missing'):
        find('some/row')
    found += ['configs/b.py', 'configs/a.py']
    with pytest.raises(ValueError, match='a.py\n  configs/b.py'):
        find('some/row')
    found.pop()
    assert find('some/row').endswith('configs/b.py')


def test_dry_run__config_of_the_job(tool, tmp_path, capsys):
    torch.save({'state_dict': {}}, tmp_path / 'x.pth')
    words = ['--weights', 'x.pth', '--work-dir', 'w, 1', '--dry-run']
    tool(SEG, *words)
    shown = capsys.readouterr().out
    made = re.search(
        r"^(mkdir .*\ncat .* <<'END'\n.*?\nEND)$", shown, re.S | re.M
    )
    assert not (tmp_path / 'w, 1').exists()
    subprocess.run(['bash', '-c', made[1]], check=True)
    path = tmp_path / 'w, 1' / SEG.relative_to(ROOT)
    assert str(path) in _plan(shown)['fine-tuning'][1]
    backbone = Config.fromfile(path).model.backbone
    exported = tmp_path / 'w, 1' / 'export' / 'backbone.pth'
    assert backbone.init_cfg.checkpoint == str(exported)


DPT = ROOT / 'configs' / 'dpt' / 'benchmarks'


def test_dry_run__whole_model_and_augmented_test(tool, tmp_path, capsys):
    config = next(DPT.glob('*_pascal-context-480x480.py'))
    state = {'backbone.a': torch.ones(1)}
    torch.save({'state_dict': state}, tmp_path / 'x.pth')
    with pytest.raises(SystemExit):
        tool(config, '--weights', 'x.pth', '--dry-run')
    assert 'no decode_head.*' in capsys.readouterr().err
    state['decode_head.b'] = torch.ones(1)
    torch.save({'state_dict': state}, tmp_path / 'x.pth')
    tool(config, '--weights', 'x.pth', '--dry-run')
    shown = capsys.readouterr().out
    assert f"load_from = '{tmp_path}/x.pth'" in shown
    plan = _plan(shown)
    assert list(plan) == ['fine-tuning', 'test']
    assert '--tta' in plan['test'][1]


def test_dry_run__released_weights_are_tested_alone(tool, capsys):
    config = next(DPT.glob('*_dpt-kitti-pre_1xb16-0e_*.py'))
    with pytest.raises(SystemExit):
        tool(config, '--dry-run')
    shown = capsys.readouterr()
    assert list(_plan(shown.out)) == ['test']
    assert 'or pass --download' in shown.err
    assert 'make a batch' not in shown.out


def test_lock__is_kept_by_a_command_left_running(tool, tmp_path):
    code = 'input()'
    with tool.module.lock(tmp_path / 'w') as held:
        child = subprocess.Popen(
            [sys.executable, '-c', code],
            stdin=subprocess.PIPE,
            pass_fds=[held],
        )
    try:
        with pytest.raises(UserError, match='left running'):
            tool.module.lock(tmp_path / 'w').__enter__()
    finally:
        child.communicate(b'\n')
    with tool.module.lock(tmp_path / 'w'):
        pass


def test_lock__second_call_is_refused(tool, tmp_path):
    lock = tool.module.lock
    with lock(tmp_path / 'w'):
        second = lock(tmp_path / 'w')
        with pytest.raises(UserError, match='Another call works in'):
            second.__enter__()
    with lock(tmp_path / 'w'):
        pass
