"""Replay of the golden cases ``depth_metrics`` and ``depth_losses``."""

from typing import Any, Dict, Iterator, Mapping, Tuple

import numpy as np
import torch

from mmdense.evaluation.functional.depth import (
    clean_prediction,
    crop_region,
    depth_sums,
    kb_region,
    metrics_from_sums,
    valid_pixels,
)

Item = Tuple[str, np.ndarray, np.ndarray, float, float]

_OUR_NAMES = {'a1': 'd1', 'a2': 'd2', 'a3': 'd3', 'log_10': 'log10'}


def _vector(sums: np.ndarray, order: Tuple[str, ...]) -> np.ndarray:
    names = [_OUR_NAMES.get(name, name) for name in order]
    values = metrics_from_sums(sums, names)
    return np.array([values[name] for name in names])


def _image(
    case: Dict[str, Any],
    arrays: Mapping[str, np.ndarray],
    data: str,
    crop: str,
    index: int,
) -> np.ndarray:
    setting = case['hyper'][data]
    low, high = setting['min_depth'], setting['max_depth']
    png = torch.from_numpy(np.asarray(arrays[f'in/{data}_png{index}']))
    target = png.float() / setting['depth_scale']
    pred = torch.from_numpy(np.asarray(arrays[f'in/{data}_pred{index}']))
    if data == 'kitti':
        target = kb_region(target.shape).of(target)
    name = 'garg' if crop == 'garg' else f'{data}_eigen'
    region = crop_region(target.shape, name)
    target = region.of(target)
    pred = region.of(clean_prediction(pred, low, high))
    return depth_sums(pred, target, valid_pixels(target, low, high))


def depth_metrics(
    case: Dict[str, Any], arrays: Mapping[str, np.ndarray]
) -> Iterator[Item]:
    """Compare the metric functions with the stored values.

    Args:
        case (dict): Entry of ``index.json``.
        arrays (Mapping[str, ndarray]): Arrays of the case by name.

    Yields:
        Tuple: Name, computed value, stored value, rtol, atol.
    """
    order = tuple(case['hyper']['order'])
    rtol, atol = case['tolerance']['rtol'], case['tolerance']['atol']
    for data in ('nyu', 'kitti'):
        for crop in ('garg', 'eigen'):
            key = f'out/{data}_{crop}'
            if f'{key}_each' not in arrays:
                continue
            sums = np.stack(
                [
                    _image(case, arrays, data, crop, i)
                    for i in range(case['hyper']['n'])
                ]
            )
            each = np.stack([_vector(row, order) for row in sums])
            got = {
                'each': each,
                'each64': each,
                'mean': np.nanmean(each, axis=0),
                'valid': sums[:, 0],
            }
            for part, value in got.items():
                if f'{key}_{part}' in arrays:
                    expected = np.asarray(arrays[f'{key}_{part}'])
                    yield f'{key}_{part}', value, expected, rtol, atol
    for name, low, high in (
        ('out/small', 1e-3, 80.0),
        ('out/small_tight', 0.5, 2.0),
    ):
        if name in arrays:
            target = np.asarray(arrays['in/small_gt'])
            mask = valid_pixels(target, low, high)
            sums = depth_sums(
                np.asarray(arrays['in/small_pred']), target, mask
            )
            yield (
                name,
                _vector(sums, order),
                np.asarray(arrays[name]),
                rtol,
                atol,
            )


def _with_gradient(
    loss: torch.nn.Module, pred: torch.Tensor, *args: torch.Tensor
) -> Tuple[np.ndarray, np.ndarray]:
    leaf = pred.clone().requires_grad_()
    value = loss(leaf, *args)
    value.backward()
    assert leaf.grad is not None
    return value.detach().numpy(), leaf.grad.numpy()


def depth_losses(
    case: Dict[str, Any], arrays: Mapping[str, np.ndarray]
) -> Iterator[Item]:
    """Compare berHu, SILog ('toolbox') and SSI with the stored values.

    Args:
        case (dict): Entry of ``index.json``.
        arrays (Mapping[str, ndarray]): Arrays of the case by name.

    Yields:
        Tuple: Name, computed value, stored value, rtol, atol.
    """
    from mmdense.models.losses.berhu_loss import BerHuLoss, berhu_threshold
    from mmdense.models.losses.silog_loss import SILogLoss

    hyper, tolerance = case['hyper'], case['tolerance']
    rtol, atol = tolerance['rtol'], tolerance['atol']
    target = torch.from_numpy(np.asarray(arrays['in/gt']))
    pred = torch.from_numpy(np.asarray(arrays['in/pred']))
    valid = target > 0

    def item(name: str, got: Any) -> Item:
        expected = np.asarray(arrays[name])
        if name.startswith('grad/'):
            return name, got, expected, 0.0, 1e-4 * np.abs(expected).max()
        return name, np.asarray(got), expected, rtol, atol

    berhu = BerHuLoss(factor=hyper['berhu_c'])
    value, grad = _with_gradient(berhu, pred, target, valid)
    yield item('out/berhu', value)
    yield item('grad/berhu', grad)
    berhu = BerHuLoss(factor=hyper['berhu_c'], detach_threshold=False)
    yield item(
        'grad/berhu_full', _with_gradient(berhu, pred, target, valid)[1]
    )
    c = berhu_threshold(pred - target, valid, hyper['berhu_c'])
    yield item('out/berhu_c', c.numpy())

    setting = dict(variance_focus=hyper['sig_lambda'], eps=hyper['sig_eps'])
    weighted = SILogLoss(loss_weight=hyper['loss_weight'], **setting)
    sig = SILogLoss(**setting)
    value, grad = _with_gradient(weighted, pred, target, valid)
    yield item('out/sig', value)
    yield item('grad/sig', grad)
    bounded = valid & (target <= hyper['max_depth'])
    yield item('out/sig_max', sig(pred, target, bounded).numpy())
    every = torch.ones_like(valid)
    clipped = target.clamp(min=0.1)
    yield item('out/sig_novalid', sig(pred, clipped, every).numpy())
    warm = SILogLoss(warm_up_iters=100, **setting)
    yield item('out/sig_warm', warm(pred, target, valid).numpy())
    for name, got in _ssi(hyper, arrays):
        yield item(name, got)


def _ssi(
    hyper: Dict[str, Any], arrays: Mapping[str, np.ndarray]
) -> Iterator[Tuple[str, np.ndarray]]:
    from mmdense.models.losses.ssi_loss import SSILoss, least_squares_fit

    pred, target, mask = (
        torch.from_numpy(np.asarray(arrays[f'in/disp_{name}']))
        for name in ('pred', 'gt', 'mask')
    )
    mask = mask > 0
    rows = (tensor.flatten(1) for tensor in (pred, target, mask))
    scale, shift = least_squares_fit(*rows)
    yield 'out/ssi_scale', scale.numpy()
    yield 'out/ssi_shift', shift.numpy()
    setting = dict(
        alpha=hyper['ssi_alpha'], scales=hyper['ssi_scales'], target='inverse'
    )
    fitted = SSILoss('least_squares', **setting)
    data, matching = fitted.terms(pred, target, mask)
    assert matching is not None
    yield 'out/ssi_data', data.numpy()
    yield 'out/ssi_reg', matching.numpy()
    total, grad = _with_gradient(fitted, pred, target, mask)
    yield 'out/ssi_total', total
    yield 'grad/ssi_total', grad
    trimmed = SSILoss('trimmed', trim=hyper['trim'], **setting)
    yield 'out/ssi_trim_data', trimmed.terms(pred, target, mask)[0].numpy()
