"""Our configs through the launchers: one process, several, testing."""

import json
import re

import pytest

from mmdense.registry import toolbox_installed
from mmdense.testing.launch import ROOT, run_tool
from mmdense.utils.checkpoint import load_checkpoint_file

CONFIGS = ROOT / 'configs' / 'local_global'
PRETRAIN = CONFIGS / 'local-global_vit-demo-p16_1xb32-coslr-70e_demo-96px.py'
SEG = next(CONFIGS.glob('benchmarks/linear_vit-demo-*_rooms-*.py'))
DEPTH = next(CONFIGS.glob('benchmarks/uper-depth_vit-demo-*_rooms-*.py'))


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.parametrize('processes', [0, 1, 2])
def test_train__pretraining_on_any_number_of_processes(processes, tmp_path):
    done = run_tool(
        'train.py',
        PRETRAIN,
        '--work-dir',
        tmp_path,
        '--cfg-options',
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=8',
        f'train_dataloader.dataset.paths={ROOT}/demo/data/rooms/val',
        processes=processes,
    )
    iterations = 40 // (8 * max(processes, 1))
    state = load_checkpoint_file(tmp_path / 'epoch_1.pth')
    assert state['meta']['iter'] == iterations
    assert 'negatives per positive (7 other images' in done.stdout
    assert 'backbone.pos_embed' in state['state_dict']


@pytest.mark.slow
def test_train__under_torchrun(tmp_path):
    import subprocess
    import sys

    from mmdense.testing.distributed import free_port

    command = [
        *(sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2'),
        *(f'--master_port={free_port()}', str(ROOT / 'tools/train.py')),
        *(str(PRETRAIN), '--launcher', 'pytorch', '--work-dir', str(tmp_path)),
        *('--cfg-options', 'train_cfg.max_epochs=1'),
        'train_dataloader.batch_size=20',
        f'train_dataloader.dataset.paths={ROOT}/demo/data/rooms/val',
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    state = load_checkpoint_file(tmp_path / 'epoch_1.pth')
    assert state['meta']['iter'] == 1


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.parametrize(
    'config,metric', [(SEG, 'mIoU'), (DEPTH, 'depth/abs_rel')]
)
def test_train__then_test_on_two_processes(config, metric, tmp_path):
    if not toolbox_installed('mmseg'):
        pytest.skip('mmseg is not installed')
    small = [
        '--cfg-options',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'train_dataloader.dataset.indices=32',
        'default_hooks.checkpoint.interval=1',
        'val_dataloader.dataset.indices=6',
        'test_dataloader.dataset.indices=6',
    ]
    trained = run_tool(
        'train.py', config, '--work-dir', tmp_path, *small, processes=2
    )
    logged = re.findall(rf'{metric}: ([\d.]+)', trained.stdout)
    assert len(logged) == 1
    out = tmp_path / 'metrics.json'
    run_tool(
        'test.py',
        config,
        tmp_path / 'epoch_1.pth',
        '--work-dir',
        tmp_path,
        '--out',
        out,
        '--out-item',
        'metrics',
        *small,
    )
    tested = json.loads(out.read_text())[metric]
    assert tested == pytest.approx(float(logged[0]), abs=6e-3)
    again = run_tool(
        'test.py',
        config,
        tmp_path / 'epoch_1.pth',
        '--work-dir',
        tmp_path,
        *small,
        processes=2,
    )
    repeated = re.findall(rf'{metric}: ([\d.]+)', again.stdout)
    assert float(repeated[-1]) == pytest.approx(tested, abs=6e-3)


@pytest.mark.slow
def test_train__resumes_from_the_latest_checkpoint(tmp_path):
    options = [
        PRETRAIN,
        '--work-dir',
        tmp_path,
        '--resume',
        '--cfg-options',
        'train_dataloader.batch_size=20',
        'default_hooks.checkpoint.interval=1',
        f'train_dataloader.dataset.paths={ROOT}/demo/data/rooms/val',
    ]
    run_tool('train.py', *options, 'train_cfg.max_epochs=1')
    second = run_tool('train.py', *options, 'train_cfg.max_epochs=2')
    assert 'resumed epoch: 1, iter: 2' in second.stdout
    state = load_checkpoint_file(tmp_path / 'epoch_2.pth')
    assert state['meta']['iter'] == 4


@pytest.mark.slow
def test_bad_file__validation_goes_on_and_a_test_stops(tmp_path):
    import shutil

    if not toolbox_installed('mmseg'):
        pytest.skip('mmseg is not installed')
    rooms, data = ROOT / 'demo/data/rooms', tmp_path / 'data'
    for folder in ('train', 'val', 'depth/train', 'depth/val'):
        (data / folder).mkdir(parents=True)
        for file in sorted((rooms / folder).iterdir())[:8]:
            shutil.copy(file, data / folder)
    bad = sorted((data / 'depth/val').iterdir())[2]
    bad.write_bytes(bad.read_bytes()[:999])
    small = [
        *('--work-dir', tmp_path, '--cfg-options'),
        *('train_cfg.max_epochs=2', 'train_cfg.val_interval=1'),
        *('param_scheduler=[]', 'model.backbone.init_cfg=None'),
        'default_hooks.visualization.draw=True',
        *(
            f'{part}_dataloader.dataset.data_root={data}'
            for part in ('train', 'val', 'test')
        ),
    ]
    trained = run_tool('train.py', DEPTH, *small).stdout
    assert len(re.findall('depth/images: 7  depth/skipped: 1', trained)) == 2
    # when it is met, and in the report with the counts
    assert len(re.findall(f'{bad}: truncated', trained)) == 2
    assert f'{bad.stem}.jpg' in trained
    weights = tmp_path / 'epoch_2.pth'
    tested = run_tool('test.py', DEPTH, weights, *small, check=False)
    assert tested.returncode == 2
    assert f'{bad}: truncated' in tested.stdout
