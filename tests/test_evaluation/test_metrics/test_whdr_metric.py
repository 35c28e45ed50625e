import csv

import numpy as np
import pytest
import torch

from mmdense.evaluation.metrics import WHDRMetric


def make_sample(index, pairs, pred=None, **meta):
    if pred is None:
        pred = torch.arange(12.0).reshape(1, 3, 4)
    return dict(
        img_path=f'{index}.jpg',
        dataset_name='DIW',
        ori_shape=(3, 4),
        pred_depth_map=dict(data=pred),
        depth_pairs=np.array(pairs),
        **meta,
    )


def evaluate(metric, samples):
    metric.process(None, samples)
    return metric.evaluate(len(samples))


# (0, 1) holds 1 and (2, 3) holds 11: in inverse depth A is farther
FARTHER, NEARER = [0, 1, 2, 3, 1], [0, 1, 2, 3, -1]


def test_whdr__counts_pairs(tmp_path):
    samples = [
        make_sample(0, [FARTHER]),
        make_sample(1, [NEARER, FARTHER, FARTHER]),
    ]
    path = tmp_path / 'whdr.csv'
    got = evaluate(WHDRMetric(csv_file=str(path)), samples)
    assert got == {'whdr/whdr': 25.0, 'whdr/images': 2, 'whdr/pairs': 4}
    rows = list(csv.DictReader(path.open(newline='')))
    assert [row['wrong'] for row in rows] == ['0', '1']
    depth = evaluate(WHDRMetric(prediction='depth'), samples)
    assert depth['whdr/whdr'] == 75.0


def test_whdr__order_survives_scale_and_shift():
    pred = 5 * torch.arange(12.0).reshape(1, 3, 4) - 40
    got = evaluate(WHDRMetric(), [make_sample(0, [FARTHER], pred)])
    assert got['whdr/whdr'] == 0


@pytest.mark.parametrize('value', [3.0, float('nan')])
def test_whdr__equal_or_broken_predictions_are_wrong(value):
    pred = torch.full((1, 3, 4), value)
    got = evaluate(WHDRMetric(), [make_sample(0, [FARTHER, NEARER], pred)])
    assert got['whdr/whdr'] == 100


def test_whdr__points_are_scaled_to_the_prediction():
    # the bright pixel of 6x8 is where (1, 2) of 3x4 has its centre
    pred = torch.zeros(1, 6, 8)
    pred[0, 3, 5] = 1
    sample = make_sample(0, [[1, 2, 0, 0, -1]], pred, depth_pairs_size=(3, 4))
    assert evaluate(WHDRMetric(), [sample])['whdr/whdr'] == 0


def test_whdr__other_sets_are_left_out():
    other = dict(make_sample(1, [NEARER]), dataset_name='ETH3D')
    other.pop('depth_pairs')
    samples = [other, make_sample(0, [FARTHER])]
    got = evaluate(WHDRMetric(datasets='DIW'), samples)
    assert got['whdr/images'] == 1


@pytest.mark.parametrize(
    'pairs,match',
    [
        ([[0, 1, 2, 4, 1]], r'7\.jpg.*outside'),
        ([[0, 1, 2, 3, 0]], 'relation'),
        ([[0, 1, 2, 3]], 'shape'),
        (None, 'depth_pairs'),
    ],
)
def test_whdr__bad_pairs_are_named(pairs, match):
    sample = make_sample(7, pairs)
    if pairs is None:
        sample['depth_pairs'] = None
    with pytest.raises(ValueError, match=match):
        WHDRMetric().process(None, [sample])


def test_whdr__unknown_prediction():
    with pytest.raises(ValueError, match="choose 'depth'"):
        WHDRMetric(prediction='disparity')
