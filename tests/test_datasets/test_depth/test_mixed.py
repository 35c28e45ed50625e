"""Mixtures of data sets."""

import collections

import numpy as np
import pytest

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmengine.dataset import DefaultSampler, InfiniteSampler  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from mmdense.datasets.depth import (  # noqa: E402
    DepthDataset,
    DepthFileError,
    MissingDepthError,
    MixedDepth,
)
from mmdense.datasets.depth.mixed import slots  # noqa: E402
from mmdense.datasets.samplers import SeededSampler  # noqa: E402
from mmdense.registry import DATASETS  # noqa: E402
from mmdense.testing.distributed import run_distributed  # noqa: E402
from mmdense.utils.errors import UserError  # noqa: E402


class Numbers(DepthDataset):
    """A data set that gives its name and index."""

    def __init__(self, name, length):
        self.length = length
        # serialising collects garbage, which takes most of a second
        super().__init__(dataset_name=name, serialize_data=False)

    def load_data_list(self):
        return [dict(img_path=f'{i}') for i in range(self.length)]

    def prepare_data(self, idx):
        return f'{self.dataset_name}{int(idx)}'


def mixture(lengths=(3, 10, 4), **kwargs):
    sets = [Numbers('abc'[i], n) for i, n in enumerate(lengths)]
    return MixedDepth(sets, **kwargs)


def shares(items):
    count = collections.Counter(item[0] for item in items)
    return [count[name] / len(items) for name in 'abc']


def test_mixed__without_weights_concatenates():
    mixed = mixture()
    assert len(mixed) == 17
    items = [mixed[i] for i in range(17)]
    expected = [f'a{i}' for i in range(3)] + [f'b{i}' for i in range(10)]
    assert items == expected + [f'c{i}' for i in range(4)]
    assert mixed[-1] == 'c3'
    with pytest.raises(IndexError):
        mixed[17]


@pytest.mark.parametrize(
    'weights', [(1, 1, 1), (0.5, 0.25, 0.25), (7, 1, 2), (3, 10, 4)]
)
def test_mixed__shares_are_the_weights_and_every_sample_comes(weights):
    mixed = mixture((30, 100, 40), dataset_weights=weights)
    items = [mixed[i] for i in range(len(mixed))]
    expected = np.array(weights) / sum(weights)
    np.testing.assert_allclose(shares(items), expected, atol=1 / len(items))
    count = collections.Counter(items)
    assert len(count) == 170
    for name in 'abc':
        times = [n for item, n in count.items() if item[0] == name]
        assert max(times) - min(times) <= 1


@pytest.mark.parametrize('weights', [None, (1, 2, 1)])
def test_mixed__order_repeats_under_seed_and_epoch(weights):
    def epoch(number, seed=3):
        mixed = mixture(dataset_weights=weights)
        sampler = DefaultSampler(mixed, shuffle=True, seed=seed)
        sampler.set_epoch(number)
        return [mixed[i] for i in sampler]

    # a run resumed at epoch 2 goes on as one that was never stopped
    assert epoch(2) == epoch(2)
    assert epoch(2) != epoch(1)
    assert epoch(2) != epoch(2, seed=4)
    assert sorted(epoch(2)) == sorted(epoch(1))


def test_mixed__infinite_sampler():
    mixed = mixture(dataset_weights=(1, 2, 1))
    stream = iter(InfiniteSampler(mixed, seed=1))
    items = [mixed[next(stream)] for _ in range(2 * len(mixed))]
    assert shares(items) == [0.25, 0.5, 0.25]


def test_mixed__epoch_length_draws_by_seed():
    mixed = mixture(dataset_weights=(1, 2, 1), epoch_length=8)
    assert len(mixed) == 8

    def epoch(number):
        sampler = SeededSampler(mixed, shuffle=True, seed=0)
        sampler.set_epoch(number)
        return [mixed[i] for i in sampler]

    epochs = [epoch(number) for number in range(40)]
    assert all(shares(items) == [0.25, 0.5, 0.25] for items in epochs)
    assert epoch(7) == epochs[7]
    # everything comes up in time, though an epoch has 8 of 17
    assert len({item for items in epochs for item in items}) == 17
    with pytest.raises(ValueError, match='SeededSampler'):
        mixed[0]


def test_mixed__seeds_reach_the_sets():
    class Seeds(Numbers):
        def prepare_data(self, idx):
            return idx.seed

    mixed = MixedDepth([Seeds('a', 2), Seeds('b', 3)], dataset_weights=(2, 1))
    sampler = SeededSampler(mixed, shuffle=False, seed=0)
    assert [mixed[i] for i in sampler] == [i.seed for i in sampler]


def test_slots__rounding_keeps_every_sample():
    for lengths, weights in [((3, 7), (0.1, 0.3)), ((49, 49), (1 / 49, 1))]:
        ends = slots(lengths, weights)
        parts = np.diff([0, *ends])
        assert (parts >= lengths).all()
    assert slots((5, 5), (1, 1), 7) == [4, 7]
    assert slots((9, 1), None, 10) == [9, 10]


@pytest.mark.parametrize(
    'kwargs,error,match',
    [
        (dict(missing='ignore'), ValueError, 'skip'),
        (dict(dataset_weights=(1, 2)), ValueError, '3 positive'),
        (dict(dataset_weights=(1, 0, 2)), ValueError, 'positive'),
        (dict(epoch_length=0), ValueError, 'epoch_length'),
    ],
)
def test_mixed__bad_arguments(kwargs, error, match):
    with pytest.raises(error, match=match) as caught:
        mixture(**kwargs)
    assert isinstance(caught.value, UserError)


def test_mixed__set_that_lacks_a_file_is_not_left_out(tmp_path):
    for kind in ('images', 'depth'):
        (tmp_path / kind).mkdir()
    for name in 'ab':
        (tmp_path / f'images/{name}.jpg').touch()
    (tmp_path / 'depth/a.png').touch()
    folder = dict(type='mmdense.DepthFolder', data_root=str(tmp_path))
    mixed = MixedDepth([Numbers('a', 4), folder], missing='skip')
    assert [len(part) for part in mixed.datasets] == [4, 1]
    with pytest.raises(DepthFileError, match='b.png'):
        MixedDepth([dict(folder, strict=True)], missing='skip')


def test_mixed__missing_sets_are_named(tmp_path, caplog):
    from mmengine.logging import MMLogger

    there = Numbers('a', 4)
    gone = dict(
        type='mmdense.DepthFolder',
        data_root=str(tmp_path / 'redweb'),
        dataset_name='redweb',
    )
    with pytest.raises(MissingDepthError, match=r'data set 1 \(redweb'):
        MixedDepth([there, gone], dataset_weights=(3, 1))
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    mixed = DATASETS.build(
        dict(
            type='mmdense.MixedDepth',
            datasets=[gone, there],
            dataset_weights=(3, 1),
            missing='skip',
        )
    )
    logger.removeHandler(caplog.handler)
    assert [mixed[i] for i in range(len(mixed))] == ['a0', 'a1', 'a2', 'a3']
    assert mixed.weights == [1]
    assert '1 of 2 data sets are left out' in caplog.text
    assert 'redweb' in caplog.text
    with pytest.raises(MissingDepthError, match='none of the data sets'):
        MixedDepth([gone, gone], missing='skip')


def _epoch_on_rank(rank, world_size):
    loader = Runner.build_dataloader(
        dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=mixture((6, 20, 10)),
        ),
        seed=5,
    )
    loader.sampler.set_epoch(1)
    return [item for batch in loader for item in batch]


@pytest.mark.dist
def test_mixed__processes_see_disjoint_shards():
    first, second = run_distributed(_epoch_on_rank, 2)
    assert not set(first) & set(second)
    expected = mixture((6, 20, 10))
    everything = sorted(expected[i] for i in range(len(expected)))
    assert sorted(first + second) == everything
