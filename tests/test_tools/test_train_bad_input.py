"""Mistakes in configs of DINO, MoBY and SelfPatch end with one line."""

import pytest
import torch

from mmdense.testing.launch import ROOT, run_tool

DINO = 'dino/dino_vit-demo-p16_1xb16-coslr-30e_demo-96px.py'
MOBY = 'moby/moby_vit-demo-p16_1xb16-coslr-30e_demo-96px.py'
SELFPATCH = (
    'selfpatch/selfpatch-dino_vit-demo-p16_1xb16-coslr-30e_demo-96px.py'
)


def _train(config, tmp_path, *options, check=False):
    return run_tool(
        'train.py',
        ROOT / 'configs' / config,
        *('--work-dir', tmp_path, '--cfg-options'),
        f'train_dataloader.dataset.paths={ROOT}/demo/data/rooms/val',
        *('train_dataloader.num_workers=0', 'train_cfg.max_epochs=4'),
        'train_dataloader.batch_size=20',
        *options,
        check=check,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    'config, option, text',
    [
        (MOBY, 'train_dataloader.batch_size=1', 'to 2 or more'),
        (MOBY, 'train_cfg.max_epochs=2', 'begins at epoch 3'),
        (MOBY, 'model.loss.queue_size=6', 'model.loss.queue_size=6'),
        (SELFPATCH, 'model.matching.top_k=9', 'model.matching.top_k=9'),
        (
            SELFPATCH,
            'train_dataloader.dataset.pipeline.0.views.1.size=64',
            'The first 2 crops are the global ones',
        ),
    ],
    ids=['batch', 'epochs', 'queue', 'top_k', 'crops'],
)
def test_train__bad_input_ends_in_one_line(config, option, text, tmp_path):
    done = _train(config, tmp_path, option)
    assert done.returncode == 2, done.stdout[-2000:]
    line = done.stdout.strip().splitlines()[-1]
    assert line.startswith('error: ') and text in line
    assert 'Traceback' not in done.stdout


@pytest.mark.slow
def test_train__crop_below_a_patch_is_told(tmp_path):
    option = 'train_dataloader.dataset.pipeline.0.views.2.size=8'
    done = _train(DINO, tmp_path, option, check=True)
    assert 'Images of 8x8 pixels are smaller than a patch' in done.stdout


@pytest.mark.slow
def test_train__weights_of_another_method_are_refused(tmp_path):
    file = tmp_path / 'dino.pth'
    torch.save({'state_dict': {'backbone.pos_embed': torch.zeros(3)}}, file)
    done = _train(SELFPATCH, tmp_path / 'two', f'load_from={file}')
    assert done.returncode == 2, done.stdout[-2000:]
    assert 'holds nothing of' in done.stdout.strip().splitlines()[-1]
