"""Stored predictions, both metrics, and what they make of them."""

import math

LOW, HIGH = 1e-3, 10.0
STORED = 8
TOLERANCE = 2e-6
# ours, stock's, factor from stock's to ours
SAME = (
    *((n, n, 1.0) for n in ('abs_rel', 'sq_rel', 'rmse', 'rmse_log')),
    *((n, n, 1.0) for n in ('log10', 'd1', 'd2', 'd3')),
    # under the name silog, without the 100, stock has lambda 0.5
    ('silog@0.5', 'silog', 100.0),
)


def make_samples(size, count=STORED):
    """Stored predictions: 0.7 to 2.5 times the truth, a fifth is unknown."""
    import torch

    samples = []
    for index in range(count):
        g = torch.Generator().manual_seed(index)
        target = 0.5 + 8.5 * torch.rand(1, *size, generator=g)
        factor = 0.7 + 1.8 * torch.rand(1, *size, generator=g) ** 3
        pred = (target * factor).clamp(LOW, HIGH)
        target[torch.rand(1, *size, generator=g) < 0.2] = 0
        samples.append(
            dict(
                img_path=f'{index}.jpg',
                pred_depth_map=dict(data=pred),
                gt_depth_map=dict(data=target),
            )
        )
    return samples


def ours(**kwargs):
    """mmdense.DepthMetric with all metrics."""
    from mmdense.evaluation import metrics
    from mmdense.evaluation.functional.depth import METRIC_NAMES

    kwargs.setdefault('depth_metrics', (*METRIC_NAMES, 'silog@0.5'))
    return metrics.DepthMetric(
        min_depth=LOW, max_depth=HIGH, prefix='ours', **kwargs
    )


def stock(**kwargs):
    """mmseg.DepthMetric with all metrics."""
    from mmseg.evaluation.metrics import DepthMetric

    return DepthMetric(
        min_depth_eval=LOW, max_depth_eval=HIGH, prefix='stock', **kwargs
    )


def evaluate(metric, samples, count=None):
    """Result of a metric for ``count`` images, the stored ones repeated."""
    count = count or len(samples)
    for index in range(count):
        metric.process(None, [samples[index % len(samples)]])
    result = metric.evaluate(count)
    return {name.split('/', 1)[1]: value for name, value in result.items()}


def loop(samples, rows=slice(None), cols=slice(None)):
    """Every metric by a loop over the pixels in float64, mean of images."""
    images = []
    for sample in samples:
        pairs = []
        pred = sample['pred_depth_map']['data'][0, rows, cols]
        target = sample['gt_depth_map']['data'][0, rows, cols]
        for p, t in zip(pred.flatten().tolist(), target.flatten().tolist()):
            if LOW < t < HIGH:
                p = LOW if math.isnan(p) else min(max(p, LOW), HIGH)
                pairs.append((p, t))
        if pairs:
            images.append(_image(pairs))
    return {
        name: math.fsum(image[name] for image in images) / len(images)
        for name in images[0]
    }


def _image(pairs):
    n = len(pairs)

    def mean(values):
        return math.fsum(values) / n

    g = [math.log(p) - math.log(t) for p, t in pairs]
    log_mean, log_square = mean(g), mean(x * x for x in g)
    ratios = [max(p / t, t / p) for p, t in pairs]
    out = dict(
        abs_rel=mean(abs(p - t) / t for p, t in pairs),
        sq_rel=mean((p - t) ** 2 / t for p, t in pairs),
        rmse=math.sqrt(mean((p - t) ** 2 for p, t in pairs)),
        rmse_log=math.sqrt(log_square),
        log10=mean(abs(math.log10(p / t)) for p, t in pairs),
    )
    for k in (1, 2, 3):
        out[f'd{k}'] = sum(r < 1.25**k for r in ratios) / n
    for name, focus in (('silog', 1.0), ('silog@0.5', 0.5)):
        out[name] = 100 * math.sqrt(log_square - focus * log_mean**2)
    return out


def _edited(samples, edit):
    copies = [
        {
            key: dict(data=value['data'].clone())
            if isinstance(value, dict)
            else value
            for key, value in sample.items()
        }
        for sample in samples
    ]
    edit(copies[0])
    return copies


def _negative(sample):
    sample['pred_depth_map']['data'][0, :2] = -0.5


def _nan(sample):
    sample['pred_depth_map']['data'][0, 0, :5] = math.nan


def _far(sample):
    sample['pred_depth_map']['data'][0, :20] = 50.0


def _empty(sample):
    sample['gt_depth_map']['data'].zero_()


def _small(sample):
    data = sample['pred_depth_map']['data']
    sample['pred_depth_map']['data'] = data[:, ::2, ::2].contiguous()


def _attempt(call):
    try:
        return call()
    except Exception as error:
        return f'{type(error).__name__}'


def compare_values(size):
    """Rows (case, metric, loop, ours, stock) and whether ours is right."""
    samples = make_samples(size, 3)
    rows, right = [], True
    # a pixel on a threshold may fall on either side in float32
    pixels = sum(int((s['gt_depth_map']['data'] > 0).sum()) for s in samples)
    expected = loop(samples)
    got, theirs = evaluate(ours(), samples), evaluate(stock(), samples)
    for name, other, factor in SAME:
        values = expected[name], got[name], theirs[other] * factor
        rows.append(('equal', name, *values))
        slack = 3 / pixels if name in ('d1', 'd2', 'd3') else 0
        right &= all(
            abs(value - values[0]) < TOLERANCE * values[0] + slack
            for value in values[1:]
        )
    if size == (480, 640):
        window = slice(45, 471), slice(41, 601)
        inside = loop(samples, *window)['abs_rel']
        mine = evaluate(ours(crop='nyu_eigen'), samples)['abs_rel']
        other = evaluate(stock(crop_type='nyu_crop'), samples)['abs_rel']
        rows.append(('equal', 'abs_rel, NYU crop', inside, mine, other))
        right &= max(abs(mine / inside - 1), abs(other / inside - 1)) < (
            TOLERANCE
        )
    rows.append(
        (
            'stock: lambda 0.5, no 100',
            'silog',
            expected['silog'],
            got['silog'],
            theirs['silog'],
        )
    )
    right &= abs(got['silog'] / expected['silog'] - 1) < TOLERANCE
    for title, edit, name in (
        ('negative predictions', _negative, 'rmse_log'),
        ('predictions beyond 10 m', _far, 'rmse'),
        ('NaN in a prediction', _nan, 'abs_rel'),
        ('an image without truth', _empty, 'abs_rel'),
    ):
        changed = _edited(samples, edit)
        true = loop(changed)[name]
        mine = evaluate(ours(), changed)[name]
        other = _attempt(lambda c=changed, n=name: evaluate(stock(), c)[n])
        rows.append((title, name, true, mine, other))
        right &= abs(mine / true - 1) < TOLERANCE
    small = _edited(samples[:1], _small)
    rows.append(
        (
            'prediction of half the size',
            'abs_rel',
            None,
            evaluate(ours(), small)['abs_rel'],
            _attempt(lambda: evaluate(stock(), small)['abs_rel']),
        )
    )
    rows.append(
        (
            "depth_metrics=['rmse']",
            'rmse',
            expected['rmse'],
            evaluate(ours(depth_metrics=['rmse']), samples)['rmse'],
            _attempt(
                lambda: evaluate(stock(depth_metrics=['rmse']), samples)[
                    'rmse'
                ]
            ),
        )
    )
    return rows, right
