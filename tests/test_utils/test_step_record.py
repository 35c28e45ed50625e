"""Steps in plain data, and back."""

import random

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from mmdense.utils.step_record import (
    from_plain,
    rng_state,
    samples_of,
    set_rng_state,
    to_plain,
)


def _sample(index):
    sample = DataSample(
        metainfo={
            'img_path': f'{index}.jpg',
            'sample_idx': np.int64(index),
            'ori_shape': (4, 5),
            'scale_factor': np.array([0.5, 2.0]),
        }
    )
    sample.set_gt_label(index)
    return sample


def test_to_plain__round_trip_through_a_safe_file(tmp_path):
    batch = {
        'inputs': [torch.arange(6, dtype=torch.uint8).view(2, 3)],
        'data_samples': [_sample(3), _sample(4)],
    }
    torch.save(to_plain(batch), tmp_path / 'x.pth')
    got = from_plain(torch.load(tmp_path / 'x.pth', weights_only=True))
    assert torch.equal(got['inputs'][0], batch['inputs'][0])
    assert got['inputs'][0].dtype == torch.uint8
    first = got['data_samples'][0]
    assert type(first) is DataSample
    assert first.img_path == '3.jpg' and first.ori_shape == (4, 5)
    assert torch.equal(first.gt_label, torch.tensor([3]))
    assert first.scale_factor.tolist() == [0.5, 2.0]
    assert samples_of(got) == samples_of(batch)


def test_to_plain__views_come_without_their_surroundings():
    whole = torch.zeros(1000)
    part = to_plain(whole[:3])
    assert part.untyped_storage().nbytes() == 12
    # what stands alone is not copied
    assert to_plain(whole).data_ptr() == whole.data_ptr()


@pytest.mark.parametrize(
    'value,plain',
    [
        (np.float32(0.5), 0.5),
        ((1, None, True), (1, None, True)),
        ({'a': [np.int64(2)]}, {'a': [2]}),
        (range(2), 'range(0, 2)'),
    ],
)
def test_to_plain__types(value, plain):
    got = to_plain(value)
    assert got == plain and type(got) is type(plain)


def test_from_plain__unknown_classes_are_not_imported():
    node = {'_data_element': 'Popen', 'metainfo': {}, 'fields': {}}
    with pytest.raises(ValueError, match='holds a Popen'):
        from_plain([node])


def test_samples_of__nested_and_unknown_batches():
    nested = {'inputs': torch.zeros(2), 'data_samples': [[_sample(1)]]}
    assert samples_of(nested) == [{'sample_idx': 1, 'img_path': '1.jpg'}]
    assert samples_of({'inputs': torch.zeros(2)}) == []
    assert samples_of(None) == []


def test_rng_state__every_generator_goes_back(tmp_path):
    def draw():
        return (
            random.random(),
            random.gauss(0, 1),
            np.random.rand(),
            np.random.normal(),
            torch.rand(2).tolist(),
        )

    random.gauss(0, 1), np.random.normal()
    torch.save(rng_state(), tmp_path / 'x.pth')
    want = draw()
    assert draw() != want
    set_rng_state(torch.load(tmp_path / 'x.pth', weights_only=True))
    assert draw() == want
