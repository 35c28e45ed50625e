"""Mistakes of users end the launchers with a message, not a traceback."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmdense.testing.launch import ROOT, run_tool

DEMO = 'local-global_vit-demo-p16_1xb32-coslr-70e_demo-96px.py'
CONFIG = ROOT / 'configs' / 'local_global' / DEMO
SCRIPTS = sorted((ROOT / 'tools').rglob('*.sh'))


def _fails(*args, said, seconds=90, tool='train.py', cwd=ROOT):
    """Run a tool that must refuse; returns what it said."""
    start = time.monotonic()
    done = run_tool(tool, *args, check=False, timeout=120, cwd=cwd)
    took = time.monotonic() - start
    assert done.returncode == 2, done.stdout[-3000:]
    assert 'Traceback' not in done.stdout, done.stdout[-3000:]
    for text in said:
        assert text in done.stdout, done.stdout[-3000:]
    assert took < seconds
    return done.stdout


def test_train__missing_config_names_near_ones():
    wrong = CONFIG.with_name(DEMO.replace('demo-96px', 'demo-9px'))
    assert not wrong.exists()
    _fails(wrong, said=['No config file', 'Nearest there', DEMO])


def test_train__lists_every_mistake(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(
        f"_base_ = ['{CONFIG}']\n"
        "model = dict(neck=dict(type='mmdense.TokenProjektor'))\n"
        'data_preprocesor = dict(mean=0)\n'
    )
    said = _fails(
        path,
        '--work-dir',
        tmp_path / 'work',
        '--cfg-options',
        'model.backbone.patchsize=8',
        'train_dataloader.dataset.data_root=nowhere/at/all',
        said=[
            '4 problem(s)',
            'model.neck.type',
            'Nearest: TokenProjector',
            'model.backbone.patchsize',
            'patch_size',
            'data_preprocesor: unknown key',
            'train_dataloader.dataset.data_root',
            "'nowhere/at/all'",
        ],
    )
    assert said.count('\n') < 12
    assert not (tmp_path / 'work').exists()


def test_train__missing_data_root_says_how_to_set_it(tmp_path):
    """From another folder the demo data is not where the config says."""
    _fails(
        CONFIG,
        said=["'demo/data'", str(tmp_path), 'train_dataloader.dataset'],
        cwd=tmp_path,
    )


def test_train__resume_from_truncated_checkpoint(tmp_path):
    whole = tmp_path / 'whole.pth'
    torch.save({'state_dict': {'w': torch.zeros(1000)}, 'meta': {}}, whole)
    broken = tmp_path / 'epoch_1.pth'
    broken.write_bytes(whole.read_bytes()[:900])
    _fails(
        CONFIG,
        '--work-dir',
        tmp_path / 'work',
        '--resume',
        broken,
        said=[str(broken)],
    )


def test_train__resume_from_missing_checkpoint(tmp_path):
    missing = tmp_path / 'epoch_9.pth'
    work = tmp_path / 'work'
    args = [CONFIG, '--work-dir', work, '--resume', missing]
    _fails(*args, said=[str(missing)])


def test_test__config_without_test_data(tmp_path):
    _fails(CONFIG, 'none.pth', said=['no test_dataloader'], tool='test.py')


@pytest.mark.parametrize('script', SCRIPTS, ids=[s.name for s in SCRIPTS])
def test_scripts__are_valid_bash(script):
    done = subprocess.run(
        ['bash', '-n', str(script)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert script.read_text().startswith('#!/usr/bin/env bash\n')


@pytest.mark.parametrize(
    'name,words',
    [
        ('dist_train.sh', ['CONFIG', 'GPUS', 'PORT=']),
        ('dist_test.sh', ['CONFIG', 'CHECKPOINT', 'GPUS', 'PORT=']),
        ('slurm_train.sh', ['CONFIG', 'PARTITION']),
        ('slurm_test.sh', ['CONFIG', 'CHECKPOINT', 'PARTITION']),
    ],
)
def test_scripts__print_usage_without_arguments(name, words):
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / name)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith('Usage:')
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_tools__have_the_stock_flags(tool):
    """All that mmpretrain's launcher of the same name takes."""
    import mmpretrain

    stock = Path(mmpretrain.__file__).parent / '.mim' / 'tools' / tool
    texts = [
        subprocess.run(
            [sys.executable, '-W', 'ignore', str(path), '--help'],
            capture_output=True,
            text=True,
        ).stdout
        for path in (stock, ROOT / 'tools' / tool)
    ]
    wanted, got = (set(re.findall(r'--[a-z_-]+', text)) for text in texts)
    assert len(wanted) > 8
    assert wanted - got == set()
