import logging
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.evaluator import Evaluator

from mmdense.evaluation.functional.depth import METRIC_NAMES
from mmdense.evaluation.metrics import DepthMetric
from mmdense.registry import METRICS
from mmdense.testing.distributed import run_distributed


def make_sample(seed, size=(8, 10), pred_size=None, empty=False):
    g = torch.Generator().manual_seed(seed)
    target = 0.5 + 6 * torch.rand(1, *size, generator=g)
    pred = target * (0.7 + 0.6 * torch.rand(1, *size, generator=g))
    target[torch.rand(1, *size, generator=g) < 0.2] = 0
    if empty:
        target.zero_()
    if pred_size is not None:
        pred = 0.5 + 6 * torch.rand(1, *pred_size, generator=g)
    return dict(
        img_path=f'{seed}.jpg',
        pred_depth_map=dict(data=pred),
        gt_depth_map=dict(data=target),
    )


def evaluate(metric, samples):
    for sample in samples:
        metric.process(None, [sample])
    return metric.evaluate(len(samples))


def numpy_abs_rel(samples, low=1e-3, high=math.inf):
    values = []
    for s in samples:
        d = s['pred_depth_map']['data'].double().numpy()
        t = s['gt_depth_map']['data'].double().numpy()
        d = np.clip(d, low, high)
        m = (t > low) & (t < high)
        if m.any():
            values.append(np.mean(np.abs(d - t)[m] / t[m]))
    return np.mean(values)


def test_depth_metric__all_names_under_prefix():
    samples = [make_sample(i) for i in range(3)]
    got = evaluate(DepthMetric(), samples)
    names = [*METRIC_NAMES, 'images', 'skipped']
    assert set(got) == {f'depth/{name}' for name in names}
    assert got['depth/abs_rel'] == pytest.approx(numpy_abs_rel(samples))
    assert got['depth/images'] == 3


@pytest.mark.parametrize(
    'names', [['rmse'], ('d1', 'silog@0.5'), 'abs_rel', ['silog@1.0']]
)
def test_depth_metric__selection(names):
    got = evaluate(DepthMetric(depth_metrics=names), [make_sample(0)])
    wanted = [names] if isinstance(names, str) else names
    assert set(got) == {f'depth/{n}' for n in (*wanted, 'images', 'skipped')}


def test_depth_metric__image_without_truth_is_skipped(caplog):
    samples = [make_sample(0), make_sample(1, empty=True), make_sample(2)]
    got = evaluate(DepthMetric(), samples)
    assert got['depth/skipped'] == 1
    assert got['depth/images'] == 2
    assert got['depth/abs_rel'] == pytest.approx(numpy_abs_rel(samples))


def test_depth_metric__only_empty_images_give_nan():
    got = evaluate(DepthMetric(), [make_sample(1, empty=True)])
    assert math.isnan(got['depth/rmse'])
    assert got['depth/skipped'] == 1


def test_depth_metric__keeps_sums_not_pixels():
    metric = DepthMetric()
    metric.process(None, [make_sample(0, size=(64, 64))])
    assert metric.results[0].size < 20


def test_depth_metric__broken_prediction_is_clamped_and_reported(caplog):
    sample = make_sample(0)
    pred = sample['pred_depth_map']['data']
    pred[0, 0, :3] = torch.tensor([math.nan, math.inf, -1.0])
    sample['gt_depth_map']['data'][0, 0, :3] = 2.0
    metric = DepthMetric(max_depth=10)
    fixed = make_sample(0)
    fixed['gt_depth_map']['data'][0, 0, :3] = 2.0
    fixed['pred_depth_map']['data'][0, 0, :3] = torch.tensor([1e-3, 10, 1e-3])
    metric.process(None, [sample])
    assert metric.results[0][-1] == 2
    got = metric.evaluate(1)
    expected = evaluate(DepthMetric(max_depth=10), [fixed])
    assert got == expected


def test_depth_metric__prediction_is_resized_to_truth():
    sample = make_sample(0, pred_size=(4, 5))
    small = sample['pred_depth_map']['data']
    got = evaluate(DepthMetric(), [sample])
    big = F.interpolate(
        small[None], (8, 10), mode='bilinear', align_corners=False
    )[0]
    sample['pred_depth_map'] = dict(data=big)
    assert got == evaluate(DepthMetric(), [sample])


def test_depth_metric__nyu_eigen_scores_the_window_only():
    sample = make_sample(0, size=(480, 640))
    sample['gt_depth_map']['data'].clamp_(min=0.5)
    got = evaluate(DepthMetric('nyu_eigen', ['abs_rel']), [sample])
    cut = {
        key: dict(data=sample[key]['data'][:, 45:471, 41:601])
        for key in ('pred_depth_map', 'gt_depth_map')
    }
    expected = numpy_abs_rel([cut], 1e-3, 10)
    assert got['nyu_eigen/abs_rel'] == pytest.approx(expected)


@pytest.mark.parametrize('protocol', ['kitti_garg', 'kitti_garg_full'])
@pytest.mark.parametrize('cropped', [True, False])
def test_depth_metric__kitti_takes_cropped_or_full_prediction(
    protocol, cropped
):
    sample = make_sample(0, size=(370, 1226))
    pred = sample['pred_depth_map']['data'].clone()
    if cropped:
        sample['pred_depth_map']['data'] = pred[:, 18:, 5:1221]
    got = evaluate(DepthMetric(protocol, ['abs_rel']), [sample])
    if protocol == 'kitti_garg':
        rows, cols = slice(18 + 143, 18 + 349), slice(5 + 43, 5 + 1172)
    else:
        # 0.4081*370, 0.99189*370, 0.03595*1226 and 0.96405*1226, truncated
        rows, cols = slice(151, 366), slice(44, 1181)
    truth = sample['gt_depth_map']['data'][:, rows, cols]
    cut = dict(
        pred_depth_map=dict(data=pred[:, rows, cols]),
        gt_depth_map=dict(data=truth),
    )
    expected = numpy_abs_rel([cut], 1e-3, 80)
    assert got[f'{protocol}/abs_rel'] == pytest.approx(expected)


@pytest.mark.parametrize(
    'kwargs,match',
    [
        (dict(protocol='nyu'), 'unknown protocol'),
        (dict(protocol='nyu_eigen', max_depth=8), 'fixes max_depth'),
        (dict(protocol='fastdepth', crop='garg'), 'fixes crop'),
        (dict(crop='eigen'), 'choose from'),
        (dict(depth_metrics=['a1']), 'unknown depth metric'),
        (dict(reduction='batch'), 'reduction'),
    ],
)
def test_depth_metric__bad_arguments(kwargs, match):
    with pytest.raises(ValueError, match=match):
        DepthMetric(**kwargs)


def test_depth_metric__wrong_truth_size_is_named():
    with pytest.raises(ValueError, match=r'7\.jpg.*\(480, 640\)'):
        DepthMetric('nyu_eigen').process(None, [make_sample(7)])


def test_depth_metric__missing_truth_is_named():
    sample = make_sample(3)
    del sample['gt_depth_map']
    with pytest.raises(KeyError, match='3.jpg'):
        DepthMetric().process(None, [sample])


def test_depth_metric__prints_protocol():
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    metric = METRICS.build(dict(type='DepthMetric', protocol='nyu_eigen'))
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        evaluate(metric, [make_sample(0, size=(480, 640))])
    finally:
        logger.removeHandler(handler)
    assert any(
        'protocol nyu_eigen' in line and 'crop nyu_eigen' in line
        for line in records
    )


def run_rank(rank, world_size, reduction, total):
    metric = DepthMetric(reduction=reduction)
    evaluator = Evaluator(metric)
    # like DefaultSampler: interleaved, padded to equal shares
    count = math.ceil(total / world_size)
    for step in range(count):
        index = (step * world_size + rank) % total
        evaluator.process([make_sample(index, empty=index == 2)])
    return evaluator.evaluate(total)


@pytest.mark.dist
@pytest.mark.parametrize('total', [5, 6])
@pytest.mark.parametrize('reduction', ['image', 'pixel'])
def test_depth_metric__two_processes_equal_one(reduction, total):
    first, second = run_distributed(run_rank, 2, reduction, total)
    assert first == second
    alone = run_rank(0, 1, reduction, total)
    assert set(first) == set(alone)
    for name, value in alone.items():
        assert first[name] == pytest.approx(value, rel=1e-12), name
