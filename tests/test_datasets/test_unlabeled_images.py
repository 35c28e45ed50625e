import pickle

import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset, default_collate
from PIL import Image
from torch.utils.data import DataLoader

from mmdense.datasets import (
    BadImageError,
    SeededIndex,
    SeededSampler,
    UnlabeledImages,
    unlabeled_images,
)
from mmdense.registry import DATASETS

VIEWS = dict(
    type='mmdense.MultiViewCrops', views=[dict(num=2, size=16)], record=True
)
PIPELINE = [VIEWS, dict(type='mmpretrain.PackInputs')]


def fill(folder, good=12, bad=()):
    rng = np.random.RandomState(0)
    for i in range(good):
        pixels = rng.randint(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f'{i:03d}.png')
    for name, content in bad:
        (folder / name).write_bytes(content)
    return str(folder)


BAD = [
    ('empty.jpg', b''),
    ('text.jpg', b'not a picture at all'),
    ('004_cut.png', b'\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR'),
]


@pytest.fixture()
def mixed(tmp_path):
    return fill(tmp_path, 12, BAD)


@pytest.fixture()
def logged(monkeypatch):
    lines = []
    monkeypatch.setattr(
        unlabeled_images, 'print_log', lambda text, *a, **k: lines.append(text)
    )
    return lines


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a['inputs'], b['inputs']))


def path_of(sample):
    return sample['data_samples'].img_path.rsplit('/', 1)[-1]


def test_getitem__packs_and_names_the_sample(tmp_path):
    dataset = DATASETS.build(
        dict(
            type='mmdense.UnlabeledImages',
            paths=fill(tmp_path),
            pipeline=PIPELINE,
        )
    )
    sample = dataset[3]
    assert [v.shape for v in sample['inputs']] == [(3, 16, 16)] * 2
    assert sample['data_samples'].sample_idx == 3
    assert sample['data_samples'].img_path.endswith('003.png')
    assert dataset.get_data_info(-1)['sample_idx'] == 11
    with pytest.raises(IndexError):
        dataset.get_data_info(12)


def test_getitem__bad_files_are_replaced_reported_once(mixed, logged):
    dataset = UnlabeledImages(mixed, pipeline=PIPELINE)
    assert len(dataset) == 15
    for _ in range(2):
        read = [path_of(dataset[i]) for i in range(15)]
        assert not {name for name, _ in BAD} & set(read)
        assert len(logged) == 3
    assert sum('empty.jpg: empty' in line for line in logged) == 1
    report = dataset.report()
    reasons = {p.rsplit('/', 1)[-1]: why for p, why in report.bad_files}
    assert set(reasons) == {name for name, _ in BAD}
    assert reasons['empty.jpg'] == 'empty'
    assert reasons['text.jpg'] == 'not an image'
    assert report.failures >= 6
    assert report.attempts == 30 + report.failures
    assert '3 of 15 image files' in str(report)
    dataset.log_report()
    dataset.log_report()
    assert len(logged) == 4 and '1 empty' in logged[-1]


def test_getitem__replacement_depends_on_the_seed_alone(mixed):
    first = UnlabeledImages(mixed, pipeline=PIPELINE, max_bad_share=1.0)
    second = UnlabeledImages(mixed, pipeline=PIPELINE, max_bad_share=1.0)
    bad = [
        i
        for i in range(15)
        if first.get_data_info(i)['img_path'].endswith(
            tuple(name for name, _ in BAD)
        )
    ]
    for i in range(15):  # other draws, other failures before
        second[i]
    chosen = set()
    for seed in range(20):
        for i in bad:
            a, b = first[SeededIndex(i, seed)], second[SeededIndex(i, seed)]
            assert path_of(a) == path_of(b) and same(a, b)
            chosen.add(path_of(a))
    assert len(chosen) > 8


def test_getitem__too_many_bad_files(tmp_path):
    bad = [(f'bad{i:02d}.jpg', b'x') for i in range(30)]
    folder = fill(tmp_path, 10, bad)
    dataset = UnlabeledImages(folder, pipeline=PIPELINE)
    with pytest.raises(RuntimeError, match='max_bad_share=0.5') as caught:
        for i in range(40):
            dataset[i]
    assert 'not an image' in str(caught.value)
    patient = UnlabeledImages(folder, pipeline=PIPELINE, max_bad_share=0.95)
    assert all(patient[i] for i in range(40))


def test_getitem__nothing_but_bad_files(tmp_path):
    folder = fill(tmp_path, 0, BAD)
    dataset = UnlabeledImages(folder, pipeline=PIPELINE)
    with pytest.raises(RuntimeError, match='max_bad_share'):
        dataset[0]
    dataset = UnlabeledImages(folder, pipeline=PIPELINE, max_refetch=3)
    with pytest.raises(RuntimeError, match='No usable image in 4 attempts'):
        dataset[0]


def test_getitem__test_mode_raises(mixed):
    dataset = UnlabeledImages(mixed, pipeline=PIPELINE, test_mode=True)
    index = 14  # text.jpg
    with pytest.raises(BadImageError, match='text.jpg'):
        dataset[index]


def test_getitem__errors_of_a_transform_are_not_hidden(tmp_path):
    def broken(results):
        raise KeyError('a mistake in the code')

    dataset = UnlabeledImages(fill(tmp_path, 3), pipeline=[broken])
    with pytest.raises(KeyError, match='mistake'):
        dataset[0]


def test_getitem__transform_that_returns_none(tmp_path):
    def picky(results):
        return None if results['sample_idx'] == 1 else results

    dataset = UnlabeledImages(fill(tmp_path, 5), pipeline=[picky])
    assert dataset[1]['sample_idx'] != 1
    assert dataset.report().bad_files[0][1] == 'rejected by the pipeline'


@pytest.mark.parametrize('workers', [0, 2])
def test_report__counts_over_workers(mixed, workers):
    dataset = UnlabeledImages(mixed, pipeline=PIPELINE)
    loader = DataLoader(
        dataset,
        batch_size=5,
        sampler=SeededSampler(dataset, shuffle=True, seed=0),
        num_workers=workers,
        collate_fn=default_collate,
    )
    assert sum(len(b['data_samples']) for b in loader) == 15
    report = dataset.report()
    assert len(report.bad_files) == 3
    assert report.attempts == 15 + report.failures
    assert report.failures >= 3


def test_worker__error_of_too_many_bad_files_reaches_the_main_process(
    tmp_path,
):
    folder = fill(tmp_path, 1, [(f'{i}.jpg', b'x') for i in range(40)])
    dataset = UnlabeledImages(folder, pipeline=PIPELINE)
    loader = DataLoader(dataset, batch_size=4, num_workers=1)
    with pytest.raises(RuntimeError, match='max_bad_share'):
        for _ in loader:
            pass


def test_index__is_one_buffer_and_pickles_small(tmp_path):
    lines = [f'{i // 1000:03d}/image_{i:07d}.jpg' for i in range(20000)]
    listed = tmp_path / 'list.txt'
    listed.write_text('\n'.join(lines))
    dataset = UnlabeledImages(str(listed))
    held = dataset.data_bytes.nbytes + dataset.data_address.nbytes
    assert held < 20000 * 34 and dataset.data_list == []
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 20000 * 36
    for i in (0, 1, 12345, 19999, -1):
        path = dataset.get_data_info(i)['img_path']
        assert path == str(tmp_path / lines[i])
        assert copy.get_data_info(i)['img_path'] == path


def test_subsets__as_in_base_dataset(mixed):
    whole = UnlabeledImages(mixed)
    part = UnlabeledImages(mixed, indices=[2, 0, 14])
    assert [part.get_data_info(i)['img_path'] for i in range(3)] == [
        whole.get_data_info(i)['img_path'] for i in (2, 0, 14)
    ]
    assert len(UnlabeledImages(mixed, indices=4)) == 4
    last = whole.get_subset(-3)
    assert len(last) == 3 and len(whole) == 15
    assert last.get_data_info(2) == dict(
        img_path=whole.get_data_info(14)['img_path'], sample_idx=2
    )
    assert last.report().files == 3


def test_lazy_init__finds_files_at_first_use(mixed):
    dataset = UnlabeledImages(mixed, pipeline=PIPELINE, lazy_init=True)
    assert not dataset._fully_initialized
    assert len(dataset) == 15
    assert dataset[0]['data_samples'].sample_idx == 0


def test_wrappers__keep_the_seed(tmp_path):
    dataset = UnlabeledImages(fill(tmp_path, 4), pipeline=PIPELINE)
    expected = dataset[SeededIndex(1, 77)]
    repeated = RepeatDataset(dataset, times=3)
    joined = ConcatDataset([dataset, dataset])
    assert same(repeated[SeededIndex(9, 77)], expected)
    assert same(joined[SeededIndex(5, 77)], expected)
    assert not same(repeated[SeededIndex(9, 78)], expected)


def test_build__refuses_a_bad_share(tmp_path):
    with pytest.raises(ValueError, match='max_bad_share=1.5'):
        UnlabeledImages(str(tmp_path), max_bad_share=1.5)


def test_getitem__broken_files_under_a_stock_loader(tmp_path):
    """Stock loaders raise what they like; the file decides."""
    Image.new('RGB', (16, 16)).save(tmp_path / 'good.png')
    (tmp_path / 'empty.jpg').touch()
    (tmp_path / 'text.jpg').write_text('no image')
    dataset = UnlabeledImages(
        paths=str(tmp_path),
        pipeline=[{'type': 'LoadImageFromFile'}],
        max_bad_share=1.0,
    )
    for index in range(3):
        assert dataset[index]['img'].shape == (16, 16, 3)
    assert dataset.report().failures >= 2
