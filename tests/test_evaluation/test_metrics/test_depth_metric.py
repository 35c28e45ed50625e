import csv
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
    ((path, name, row),) = metric.results
    assert (path, name) == ('0.jpg', '')
    # no array: many small ones keep the heap from shrinking
    assert isinstance(row, tuple) and len(row) < 20


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
    assert metric.results[0][2][-1] == 2
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
        (dict(protocol='nyu_eigen', alignment='median'), 'fixes alignment'),
        (dict(alignment='ransac'), 'alignment=.*least_squares'),
        (dict(prediction='disparity'), 'prediction='),
        (dict(min_depth=0.0), 'no range'),
        (dict(min_depth=3.0, max_depth=2.0), 'no range'),
        (dict(datasets=[]), 'datasets is empty'),
        (
            dict(depth_metrics=['abs_rel_dev_after_affine_alignment']),
            'needs alignment',
        ),
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
    with pytest.raises(ValueError, match=r'3\.jpg.*gt_depth_map'):
        DepthMetric().process(None, [sample])


def test_depth_metric__wrong_shape_is_named():
    sample = make_sample(3)
    sample['pred_depth_map']['data'] = torch.ones(2, 8, 10)
    with pytest.raises(ValueError, match=r'3\.jpg.*pred.*\(2, 8, 10\)'):
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


def collect_log(metric, samples):
    from mmengine.logging import MMLogger

    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        result = evaluate(metric, samples)
    finally:
        logger.removeHandler(handler)
    return result, '\n'.join(records)


def test_depth_metric__flip_test_is_stated_if_known():
    sample = make_sample(0)
    _, text = collect_log(DepthMetric(), [sample])
    assert 'flip test as in test_cfg' in text
    _, text = collect_log(DepthMetric(), [dict(sample, flip_test=True)])
    assert 'flip test on' in text


def test_depth_metric__names_empty_and_broken_images():
    samples = [make_sample(0), make_sample(1, empty=True), make_sample(2)]
    samples[2]['pred_depth_map']['data'][:] = math.nan
    _, text = collect_log(DepthMetric(max_depth=10), samples)
    assert '1 of 3 images have no valid ground truth' in text
    assert 'skipped: 1.jpg' in text
    assert 'in 1 images: 2.jpg' in text


def inverse_sample(seed, scale=0.05, shift=0.7):
    sample = make_sample(seed)
    truth = sample['gt_depth_map']['data'].double()
    inverse = 1 / truth.clamp(min=0.1)
    noise = 0.02 * torch.sin(torch.arange(80.0)).reshape(1, 8, 10).double()
    pred = (inverse + noise - shift) / scale
    sample['pred_depth_map']['data'] = pred.float()
    return sample


def numpy_aligned(sample, cap):
    """AbsRel, share above 1.25 and deviation after a fit by lstsq."""
    p = sample['pred_depth_map']['data'].double().numpy().ravel()
    t = sample['gt_depth_map']['data'].double().numpy().ravel()
    m = (t > 1e-3) & (t < cap)
    p, t = p[m], t[m]
    fit, *_ = np.linalg.lstsq(
        np.stack([p, np.ones_like(p)], 1), 1 / t, rcond=None
    )
    q = p * fit[0] + fit[1]
    d = 1 / np.maximum(q, 1 / cap)
    ratio = np.maximum(d / t, t / d)
    spread = (1 / t).max() - (1 / t).min()
    return dict(
        abs_rel=np.mean(np.abs(d - t) / t),
        d1_error=100 * np.mean(ratio >= 1.25),
        mae=np.mean(np.abs(d - t)),
        dev=np.mean(np.abs(q - 1 / t)) / spread,
        fit=fit,
    )


@pytest.mark.parametrize('protocol', ['zero_shot_nyu', 'zero_shot_kitti'])
def test_depth_metric__aligned_in_inverse_depth(protocol):
    samples = [inverse_sample(i, 0.05 + i, -0.3 * i) for i in range(3)]
    cap = 10 if protocol.endswith('nyu') else 80
    names = ['abs_rel', 'd1_error', 'mae']
    got = evaluate(DepthMetric(protocol, names), samples)
    expected = [numpy_aligned(s, cap) for s in samples]
    for name in names:
        mean = np.mean([e[name] for e in expected])
        assert got[f'{protocol}/{name}'] == pytest.approx(mean, rel=1e-5)
    assert got[f'{protocol}/abs_rel'] > 0.01


@pytest.mark.parametrize('kind', ['constant', 'single pixel'])
@pytest.mark.parametrize('protocol', ['affine_ablation', 'zero_shot_nyu'])
def test_depth_metric__truth_without_a_fit_is_skipped(
    protocol, kind, tmp_path
):
    samples = [inverse_sample(i) for i in range(3)]
    flat = inverse_sample(3)
    truth = flat['gt_depth_map']['data']
    if kind == 'constant':
        truth.fill_(3.0)
    else:
        truth[:, 1:] = 0
        truth[:, :, 1:] = 0
        truth[0, 0, 0] = 2.0
    path = tmp_path / 'images.csv'
    metric = DepthMetric(protocol, csv_file=str(path))
    expected = evaluate(DepthMetric(protocol), samples)
    got, text = collect_log(metric, [*samples[:2], flat, samples[2]])
    assert got.pop(f'{protocol}/skipped') == 1
    assert expected.pop(f'{protocol}/skipped') == 0
    assert got == expected and got[f'{protocol}/images'] == 3
    assert not any(map(math.isnan, got.values()))
    assert '1 of 4 images have constant ground truth' in text
    assert 'skipped: 3.jpg' in text
    with open(path, newline='') as file:
        rows = list(csv.DictReader(file))
    reasons = [row['skipped'] for row in rows]
    assert reasons == ['', '', 'constant ground truth', '']
    assert int(rows[2]['valid_pixels']) == (80 if kind == 'constant' else 1)
    assert rows[2]['scale'] == rows[2][metric.depth_metrics[0]] == ''


def test_depth_metric__deviation_needs_scale_and_shift():
    name = 'abs_rel_dev_after_affine_alignment'
    for alignment in ('none', 'median'):
        with pytest.raises(ValueError, match='least_squares'):
            DepthMetric(depth_metrics=[name], alignment=alignment)


def test_depth_metric__cap_of_an_aligned_prediction():
    # the fit gives an inverse depth below 0 at the last pixel
    target = torch.tensor([[[1.0, 1.0, 9.0, 9.0]]])
    pred = torch.tensor([[[1.0, 1.0, 0.4, 0.0]]])
    sample = dict(
        pred_depth_map=dict(data=pred), gt_depth_map=dict(data=target)
    )
    got = evaluate(DepthMetric('zero_shot_tum', ['mae', 'rmse']), [sample])
    fit = np.polyfit(pred.ravel().numpy(), 1 / target.ravel().numpy(), 1)
    q = np.polyval(fit, pred.ravel().numpy())
    assert q[-1] < 0
    d = np.minimum(1 / np.maximum(q, 0.1), 10)
    expected = np.abs(d - target.ravel().numpy()).mean()
    assert got['zero_shot_tum/mae'] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('space', ['depth', 'inverse'])
@pytest.mark.parametrize('prediction', ['depth', 'inverse'])
def test_depth_metric__median_alignment(space, prediction):
    sample = make_sample(0)
    truth = sample['gt_depth_map']['data'].double()
    pred = sample['pred_depth_map']['data'].double()
    if prediction == 'inverse':
        sample['pred_depth_map']['data'] = (1 / (3 * pred)).float()
    else:
        sample['pred_depth_map']['data'] = (3 * pred).float()
    m = truth > 0
    d, t = (3 * pred)[m].numpy(), truth[m].numpy()
    if space == 'depth':
        d = d * np.median(t) / np.median(d)
    else:
        d = d / (np.median(1 / t) / np.median(1 / d))
    metric = DepthMetric(
        depth_metrics=['abs_rel'],
        alignment='median',
        alignment_space=space,
        prediction=prediction,
    )
    got = evaluate(metric, [sample])
    expected = np.mean(np.abs(d - t) / t)
    assert got['depth/abs_rel'] == pytest.approx(expected, rel=1e-5)


def test_depth_metric__inverse_prediction_without_alignment():
    sample = make_sample(0)
    plain = evaluate(DepthMetric(max_depth=10), [sample])
    data = sample['pred_depth_map']['data']
    sample['pred_depth_map']['data'] = 1 / data
    got = evaluate(DepthMetric(max_depth=10, prediction='inverse'), [sample])
    for name, value in plain.items():
        assert got[name] == pytest.approx(value, rel=1e-5), name


def test_depth_metric__broken_values_do_not_spoil_a_fit():
    sample, clean = inverse_sample(4), inverse_sample(4)
    bad = torch.tensor([math.nan, math.inf, -math.inf])
    sample['gt_depth_map']['data'][0, 0, :3] = 2.0
    sample['pred_depth_map']['data'][0, 0, :3] = bad
    clean['gt_depth_map']['data'][0, 0, :3] = 0.0
    metric = DepthMetric('zero_shot_nyu')
    got = metric.score_sample(sample)
    expected = metric.score_sample(clean)
    assert got[-1] == 3
    np.testing.assert_allclose(got[-3:-1], expected[-3:-1], rtol=1e-9)
    assert np.isfinite(got[:-4]).all()
    assert got[0] == expected[0] + 3


def test_depth_metric__affine_ablation_per_set_and_mean():
    names = ['HRWSI', 'BlendedMVS', 'ReDWeb']
    samples = [
        dict(inverse_sample(i, 3.0, 0.2), dataset_name=names[i % 3])
        for i in range(7)
    ]
    samples.append(dict(img_path='x.jpg', dataset_name='DIW'))
    # known up to scale only
    for sample in samples[:7]:
        sample['gt_depth_map']['data'] *= 1e-3
    got = evaluate(DepthMetric('affine_ablation', datasets=names), samples)
    key = 'abs_rel_dev_after_affine_alignment'
    each = {name: [] for name in names}
    for sample in samples[:7]:
        sample['gt_depth_map']['data'] *= 1e3
        each[sample['dataset_name']].append(numpy_aligned(sample, 1e9)['dev'])
    for name, values in each.items():
        assert got[f'affine_ablation/{name}/{key}'] == pytest.approx(
            np.mean(values), rel=1e-5
        )
        assert got[f'affine_ablation/{name}/images'] == len(values)
    assert got[f'affine_ablation/mean/{key}'] == pytest.approx(
        np.mean([np.mean(values) for values in each.values()]), rel=1e-5
    )
    assert got['affine_ablation/mean/images'] == 7
    assert next(iter(got)) == f'affine_ablation/mean/{key}'


def test_depth_metric__set_that_is_missing():
    samples = [dict(make_sample(0), dataset_name='KITTI')]
    got, text = collect_log(DepthMetric(datasets='TUM'), samples)
    assert got == {}
    assert "'TUM'" in text and 'KITTI' in text
    got, text = collect_log(DepthMetric(datasets=['TUM', 'KITTI']), samples)
    assert 'depth/KITTI/abs_rel' in got
    assert not any('mean' in name for name in got)
    assert 'no mean' in text


def test_depth_metric__csv(tmp_path):
    samples = [make_sample(i, empty=i == 1) for i in range(3)]
    samples = [dict(s, dataset_name='a,b') for s in samples]
    path = tmp_path / 'new' / 'images.csv'
    metric = DepthMetric(depth_metrics=['rmse', 'd1'], csv_file=str(path))
    got = evaluate(metric, samples)
    with open(path, newline='') as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *('img_path', 'dataset', 'valid_pixels', 'broken_pixels'),
        *('scale', 'shift', 'skipped', 'rmse', 'd1'),
    ]
    assert [row['img_path'] for row in rows] == ['0.jpg', '1.jpg', '2.jpg']
    assert rows[0]['dataset'] == 'a,b'
    assert rows[1]['valid_pixels'] == '0' and rows[1]['rmse'] == ''
    reasons = [row['skipped'] for row in rows]
    assert reasons == ['', 'no valid ground truth', '']
    mean = (float(rows[0]['rmse']) + float(rows[2]['rmse'])) / 2
    assert got['depth/rmse'] == mean
    truth = samples[0]['gt_depth_map']['data']
    assert int(rows[0]['valid_pixels']) == (truth > 0).sum()


def test_work_dir__is_that_of_the_log(tmp_path):
    from mmengine.logging import MMLogger

    from mmdense.evaluation.metrics.row_metric import work_dir

    logger = MMLogger.get_current_instance()
    handler = logging.FileHandler(tmp_path / 'plain.log')
    inner = tmp_path / '20260101_000000'
    inner.mkdir()
    stamped = logging.FileHandler(inner / '20260101_000000.log')
    before = list(logger.handlers)
    try:
        logger.handlers[:] = [stamped]
        assert work_dir() == str(tmp_path)
        logger.handlers[:] = [handler]
        assert work_dir() == str(tmp_path)
    finally:
        logger.handlers[:] = before
        handler.close()
        stamped.close()


def run_rank(rank, world_size, reduction, total, padded, folder):
    path = f'{folder}/{world_size}.csv'
    metrics = [
        DepthMetric(reduction=reduction, csv_file=path),
        # one set of two: rows of the other must not shift the order
        DepthMetric(
            reduction=reduction,
            datasets=['odd'],
            prefix='odd',
            csv_file=f'{folder}/odd_{world_size}.csv',
        ),
    ]
    evaluator = Evaluator(metrics)
    # like DefaultSampler: interleaved, with round_up padded to equal shares
    count = math.ceil(total / world_size)
    own = [step * world_size + rank for step in range(count)]
    own = [i % total for i in own if padded or i < total]
    for start in range(0, len(own), 2):
        batch = []
        for index in own[start : start + 2]:
            sample = make_sample(index, empty=index == 2)
            name = 'odd' if index % 2 else 'even'
            batch.append(dict(sample, dataset_name=name))
        evaluator.process(batch)
    return evaluator.evaluate(total)


@pytest.mark.dist
@pytest.mark.parametrize(
    'reduction,total,padded',
    [('image', 5, True), ('image', 7, False), ('pixel', 7, True)],
)
def test_depth_metric__two_processes_equal_one(
    reduction, total, padded, tmp_path
):
    case = reduction, total, padded, str(tmp_path)
    first, second = run_distributed(run_rank, 2, *case)
    assert first == second
    # bit for bit, metrics and files
    alone = run_rank(0, 1, *case)
    assert first == alone
    assert first['depth/images'] == total - 1
    assert first['odd/images'] == total // 2
    for name in ('', 'odd_'):
        two = (tmp_path / f'{name}2.csv').read_text()
        assert two == (tmp_path / f'{name}1.csv').read_text()
    names = [line.split(',')[0] for line in two.splitlines()[1:]]
    assert names == [f'{i}.jpg' for i in range(1, total, 2)]
