import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, default_collate
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader

from mmdense.datasets import SeededIndex, SeededSampler, UnlabeledImages
from mmdense.registry import DATA_SAMPLERS
from mmdense.testing.distributed import run_distributed
from mmdense.utils.rng import mix_seed, sample_rng, splitmix64


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_splitmix64__published_sequence():
    # the generator seeded with 1234567, see rosettacode.org, "Splitmix64"
    state, found = 1234567, []
    for _ in range(3):
        found.append(splitmix64(state))
        state += 0x9E3779B97F4A7C15
    assert found == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_mix_seed__spreads_and_depends_on_the_order():
    seeds = [
        mix_seed(s, e, i)
        for s in range(4)
        for e in range(10)
        for i in range(250)
    ]
    assert len(set(seeds)) == len(seeds)
    assert mix_seed(1, 2) != mix_seed(2, 1)
    bits = np.array([[s >> k & 1 for k in range(64)] for s in seeds])
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.025
    # neighbours differ in half of the bits
    flips = np.abs(np.diff(bits, axis=0)).mean()
    assert abs(flips - 0.5) < 0.005


def test_sample_rng__same_seed_same_draws_and_states_come_back():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    plain = [draw(), draw()]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    first = draw()
    with sample_rng(2**64 - 5):
        inside = draw()
    assert [first, draw()] == plain
    with pytest.raises(KeyError), sample_rng(7):
        raise KeyError
    with sample_rng(2**64 - 5):
        assert draw() == inside
    for other in (2**64 - 6, (2**64 - 5) ^ (1 << 63), 2**32 - 5):
        with sample_rng(other):
            assert all(a != b for a, b in zip(draw(), inside))


def test_seeded_index__is_an_int_that_survives_pickling():
    index = SeededIndex(7, 2**63 + 11)
    copy = pickle.loads(pickle.dumps([index]))[0]
    assert copy == 7 and [10] * (copy + 1) == [10] * 8
    assert list(range(9))[copy] == 7 and copy.seed == 2**63 + 11
    assert (index % 5, (index % 5).seed) == (2, index.seed)
    assert (index - 3, (index - 3).seed) == (4, index.seed)


@pytest.mark.parametrize('shuffle', [False, True])
def test_sampler__order_of_the_stock_sampler(shuffle):
    ours = DATA_SAMPLERS.build(
        dict(type='mmdense.SeededSampler', shuffle=shuffle),
        default_args=dict(dataset=range(37), seed=5),
    )
    stock = DefaultSampler(range(37), shuffle=shuffle, seed=5)
    seen = set()
    for epoch in (0, 1, 6):
        ours.set_epoch(epoch)
        stock.set_epoch(epoch)
        indices = list(ours)
        assert indices == list(stock) and len(ours) == 37
        seen |= {i.seed for i in indices}
        assert [i.seed for i in ours] == [i.seed for i in indices]
    assert len(seen) == 3 * 37


def test_sampler__through_a_batch_sampler():
    sampler = SeededSampler(range(10), seed=0)
    batches = list(BatchSampler(sampler, 4, drop_last=False))
    assert [len(b) for b in batches] == [4, 4, 2]
    assert all(isinstance(i, SeededIndex) for b in batches for i in b)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('images')
    rng = np.random.RandomState(0)
    for i in range(11):
        pixels = rng.randint(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(root / f'{i:02d}.png')
    (root / '05_bad.png').write_bytes(b'damaged')
    return str(root)


def with_numpy_and_torch(results):
    """A transform that draws from the other generators."""
    results['noise'] = torch.tensor([np.random.rand(), torch.rand(1).item()])
    return results


def loader_of(folder, workers, batch=4, **kwargs):
    dataset = UnlabeledImages(
        folder,
        pipeline=[
            dict(type='mmdense.MultiViewCrops', views=[dict(num=2, size=16)]),
            with_numpy_and_torch,
            dict(type='mmpretrain.PackInputs', algorithm_keys=('noise',)),
        ],
    )
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=SeededSampler(dataset, seed=3),
        num_workers=workers,
        collate_fn=default_collate,
        **kwargs,
    )


def epoch_of(loader, epoch):
    """Views and noise of every sample of an epoch, by index."""
    loader.sampler.set_epoch(epoch)
    found = {}
    for batch in loader:
        for k, info in enumerate(batch['data_samples']):
            views = tuple(v[k].numpy().tobytes() for v in batch['inputs'])
            assert views[0] != views[1]
            found.setdefault(info.img_path, []).append(
                (views, tuple(info.noise.tolist()))
            )
    return found


def test_samples__equal_for_any_number_of_workers(folder):
    random.seed(0)
    expected = [epoch_of(loader_of(folder, 0), e) for e in (0, 1, 5)]
    assert len({str(e) for e in expected}) == 3
    random.seed(99)  # global state must not matter
    for workers in (1, 3):
        loader = loader_of(folder, workers, persistent_workers=True)
        assert [epoch_of(loader, e) for e in (0, 1, 5)] == expected
    # as after resuming at epoch 5, with another batch size
    assert epoch_of(loader_of(folder, 2, batch=3), 5) == expected[2]


@pytest.mark.slow
def test_samples__equal_in_spawned_workers(folder, monkeypatch):
    loader = loader_of(folder, 1, multiprocessing_context='spawn')
    loader.dataset.pipeline.transforms.pop(1)
    loader.dataset.pipeline.transforms[-1].algorithm_keys = ()
    plain = loader_of(folder, 0)
    plain.dataset.pipeline.transforms.pop(1)
    plain.dataset.pipeline.transforms[-1].algorithm_keys = ()
    for a, b in zip(loader, plain):
        assert all(torch.equal(x, y) for x, y in zip(a['inputs'], b['inputs']))


def indices_on_rank(rank, world_size, seed):
    sampler = SeededSampler(range(10), seed=seed)
    sampler.set_epoch(2)
    return [(int(i), i.seed) for i in sampler]


@pytest.mark.dist
def test_sampler__processes_share_the_seeds_of_one_process():
    first, second = run_distributed(indices_on_rank, 2, 11)
    alone = SeededSampler(range(10), seed=11)
    alone.set_epoch(2)
    assert len(first) == len(second) == 5
    assert dict(first + second) == {int(i): i.seed for i in alone}
    assert [i for i, _ in first] == [int(i) for i in alone][::2]
