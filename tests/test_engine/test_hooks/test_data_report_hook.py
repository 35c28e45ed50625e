import types

import pytest
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset
from PIL import Image

from mmdense.datasets import SeededSampler, UnlabeledImages
from mmdense.engine.hooks import DataReportHook, StepSeedHook
from mmdense.engine.hooks.data_report_hook import reporting_datasets
from mmdense.testing.distributed import run_distributed

PIPELINE = [
    {'type': 'mmdense.MultiViewCrops', 'views': [{'num': 2, 'size': 8}]}
]


def _folder(path, good=6, bad=2):
    path.mkdir()
    for index in range(good):
        Image.new('RGB', (16, 16)).save(path / f'good{index}.png')
    for index in range(bad):
        (path / f'bad{index}.jpg').write_bytes(b'no image')
    return str(path)


def _dataset(folder):
    return UnlabeledImages(paths=folder, pipeline=PIPELINE, max_bad_share=0.9)


def _runner(dataset):
    loader = types.SimpleNamespace(dataset=dataset)
    return types.SimpleNamespace(train_dataloader=loader)


@pytest.mark.parametrize('wrap', ['none', 'repeat', 'concat'])
def test_after_train_epoch__reports_once_through_wrappers(tmp_path, wrap):
    inner = _dataset(_folder(tmp_path / 'images'))
    texts = []
    inner._log_of = lambda status, counts: texts.append(
        str(inner._report_of(status, counts))
    )
    dataset = {
        'none': lambda: inner,
        'repeat': lambda: RepeatDataset(inner, 2),
        'concat': lambda: ConcatDataset([inner, inner]),
    }[wrap]()
    for index in range(8):
        dataset[index]
    DataReportHook().after_train_epoch(_runner(dataset))
    assert len(texts) == (2 if wrap == 'concat' else 1)
    assert '2 of 8 image files could not be used' in texts[0]
    assert list(reporting_datasets(range(3))) == []


def _rank(rank, world_size, folder):
    import mmdense  # noqa: F401

    dataset = _dataset(folder)
    logged = []
    dataset._log_of = lambda status, counts: logged.append(
        (int((status != 0).sum()), counts.sum(dim=0).tolist())
    )
    # files are sorted: the bad ones come first, one for each rank
    for index in range(rank, 8, 2):
        dataset[index]
    DataReportHook().after_train_epoch(_runner(dataset))
    return logged[0]


@pytest.mark.dist
def test_after_train_epoch__adds_up_all_processes(tmp_path):
    folder = _folder(tmp_path / 'images')
    first, second = run_distributed(_rank, 2, folder)
    assert first == second
    bad, (attempts, failures) = first
    assert bad == 2
    assert attempts == 8 + failures


def test_before_train__sampler_takes_the_seed_of_the_run():
    sampler = SeededSampler(range(8), seed=3)
    loader = torch.utils.data.DataLoader(
        range(8), sampler=sampler, batch_size=2
    )
    runner = types.SimpleNamespace(seed=5, train_dataloader=loader)
    StepSeedHook().before_train(runner)
    want = list(SeededSampler(range(8), seed=5))
    assert list(loader.sampler) == want
    assert [int(i) for batch in loader for i in batch] == [
        int(i) for i in want
    ]
    runner.seed = None
    StepSeedHook().before_train(runner)
    assert sampler.seed == 5
