"""What makes a model of relative depth metric: one scale and one shift."""

import statistics
from copy import deepcopy
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import Tensor

from ..evaluation.functional.depth import (
    KB_SIZE,
    METRIC_NAMES,
    Alignment,
    depth_sums,
    fit_alignment,
    kb_region,
    reduce_sums,
    robust_alignment,
    valid_pixels,
)
from ..evaluation.metrics.depth_protocols import DEFAULTS, resolve
from ..utils.data_settings import inner_datasets
from ..utils.errors import UserValueError
from .inference.base import read_settings
from .inference.toolbox import load_weights, scope_of, task_of

METHODS = ('robust', 'least_squares')
# fewer pixels fit anything
_FEWEST = 16
# as of the head
_SMALLEST_INVERSE = 1e-8
_METRIC_KEYS = ('scale', 'shift', 'learn_affine', 'init_depth')


class ScaleShift(NamedTuple):
    """Result of :func:`fit_scale_shift`.

    Attributes:
        scale (float): a of ``1 / (a x + b)``, the mean over the images.
        shift (float): b, likewise, 1/metre.
        scale_std (float): Standard deviation over the images.
        shift_std (float): Likewise.
        fits (Dict[str, Alignment]): Image to its own scale and shift.
        bad (Dict[str, str]): Image to why it was left out.
        metrics (Dict[str, float]): Depth metrics of the same images with the
            one scale and shift, mean over the images; empty if not wanted.
    """

    scale: float
    shift: float
    scale_std: float
    shift_std: float
    fits: Dict[str, Alignment]
    bad: Dict[str, str]
    metrics: Dict[str, float]


def relative_model(
    config: Any, weights: str, device: str, trust: Optional[bool] = None
) -> Tuple[Config, Any]:
    """The relative model that a config has, or would start from.

    Args:
        config (str or Config): With ``output='relative'`` or
            ``'inverse_affine'``, whose scale and shift are left out.
        weights (str): Checkpoint of the whole model.
        device (str): For the model.
        trust (bool, optional): Load files that hold more than tensors.
            Defaults to None: as the environment says.

    Returns:
        Tuple[Config, nn.Module]: Config and model, which gives inverse
        depth up to scale and shift.

    Raises:
        UserValueError: If the model predicts something else, or the weights
            are not its own.
    """
    cfg, checkpoint = read_settings(config, weights, trust)
    head = cfg.model.get('decode_head') or {}
    # DPT's head is relative by default
    output = head.get('output', 'relative')
    if task_of(cfg) != 'depth' or output not in ('relative', 'inverse_affine'):
        raise UserValueError(
            f'{cfg.filename}: model.decode_head.output={output!r} predicts '
            'no inverse depth to which a scale and a shift could be fitted; '
            "it has to be 'relative' or 'inverse_affine'."
        )
    for key in _METRIC_KEYS:
        head.pop(key, None)
    head['output'] = 'relative'
    with DefaultScope.overwrite_default_scope(scope_of(cfg)):
        model = MODELS.build(cfg.model)
    if not getattr(model.decode_head, 'is_relative', False):
        raise UserValueError(
            f'{cfg.filename}: model.decode_head.type={head.get("type")!r} '
            'has no relative output.'
        )
    load_weights(model, checkpoint)
    return cfg, model.to(device).eval()


def training_images(cfg: Config, data_root: Optional[str] = None) -> Any:
    """Training set of a config, without augmentation.

    Args:
        cfg (Config): Its ``train_dataloader`` has the files, the pipeline of
            its ``test_dataloader`` reads them.
        data_root (str, optional): In place of the config's. Defaults to
            None.

    Returns:
        Dataset: Built.

    Raises:
        UserValueError: If one of them is missing, or it trains on several
            sets.
    """
    for key in ('train_dataloader', 'test_dataloader'):
        if cfg.get(key) is None:
            raise UserValueError(f'{cfg.filename} has no {key}.')
    parts = inner_datasets(cfg.train_dataloader.dataset)
    if len(parts) > 1:
        raise UserValueError(
            f'{cfg.filename} trains on {len(parts)} data sets; scale and '
            'shift are of one, with depth in metres: name a config of it '
            'with --data.'
        )
    dataset = deepcopy(parts[0])
    test = inner_datasets(cfg.test_dataloader.dataset)[0]
    dataset['pipeline'] = deepcopy(test['pipeline'])
    if data_root is not None:
        dataset['data_root'] = data_root
    with DefaultScope.overwrite_default_scope(scope_of(cfg)):
        return DATASETS.build(dataset)


def depth_range(cfg: Config) -> Tuple[float, Optional[float]]:
    """Bounds in metres that a config's depth metric scores within."""
    found = cfg.get('test_evaluator') or {}
    for one in found if isinstance(found, (list, tuple)) else [found]:
        if str(one.get('type')).endswith('DepthMetric'):
            given = {key: one.get(key) for key in DEFAULTS if key != 'metrics'}
            setting = resolve(one.get('protocol'), given)
            return setting['min_depth'], setting['max_depth']
    return DEFAULTS['min_depth'], DEFAULTS['max_depth']


def _matched(pred: Tensor, truth: Tensor) -> Tuple[Tensor, Tensor]:
    """Both on the pixels of the truth, or of KITTI's benchmark crop."""
    size = tuple(truth.shape)
    if tuple(pred.shape) == KB_SIZE and size != KB_SIZE:
        return pred, kb_region((size[0], size[1])).of(truth)
    if tuple(pred.shape) != size:
        pred = F.interpolate(
            pred[None, None], size, mode='bilinear', align_corners=False
        )[0, 0]
    return pred, truth


def _predictions(
    model: Any,
    dataset: Any,
    indices: List[int],
    bounds: Tuple[float, Optional[float]],
    bad: Dict[str, str],
) -> Iterator[Tuple[str, Tensor, Tensor]]:
    """Image, relative inverse depth and true depth at the valid pixels.

    Images that cannot be used are noted in ``bad``.
    """
    from ..datasets.depth.errors import BadSampleError

    for index in indices:
        name = str(dataset.get_data_info(index).get('img_path', index))
        if name in bad:
            continue
        try:
            packed = dataset.prepare_data(index)
        except BadSampleError as error:
            bad[name] = str(error).splitlines()[0]
            continue
        with torch.no_grad():
            sample = model.test_step(pseudo_collate([packed]))[0]
        if 'gt_depth_map' not in sample:
            raise UserValueError(
                f'{name} comes without depth: the test pipeline of the data '
                'has to load it (mmdense.LoadDepth).'
            )
        pred, truth = _matched(
            sample.pred_depth_map.data[0].float().cpu(),
            sample.gt_depth_map.data[0].float().cpu(),
        )
        mask = valid_pixels(truth, *bounds)
        x, depth = pred[mask], truth[mask]
        if len(depth) < _FEWEST:
            bad[name] = f'{len(depth)} pixels with valid depth'
        elif not bool(torch.isfinite(x).all()):
            bad[name] = 'the prediction has NaN or infinite values'
        else:
            yield name, x, depth


def _metrics(
    pairs: Iterator[Tuple[str, Tensor, Tensor]],
    fit: Alignment,
    bounds: Tuple[float, Optional[float]],
) -> Dict[str, float]:
    rows = []
    for _, x, depth in pairs:
        inverse = fit.scale * x + fit.shift
        pred = 1 / inverse.clamp(min=_SMALLEST_INVERSE)
        rows.append(np.asarray(depth_sums(pred.clamp(*bounds), depth)))
    return reduce_sums(np.stack(rows), METRIC_NAMES, 'image')


def fit_scale_shift(
    model: Any,
    dataset: Any,
    method: str = 'robust',
    samples: Optional[int] = None,
    bounds: Tuple[float, Optional[float]] = (1e-3, None),
    with_metrics: bool = True,
) -> ScaleShift:
    """Scale and shift from relative to metric inverse depth.

    Each image gets its own, between prediction and 1 / depth over its valid
    pixels; the result is their mean over the images.

    Sources: [0] Ranftl et al., Vision Transformers for Dense Prediction,
    2021, section 4.1 (metric fine-tuning).

    Args:
        model (DepthEstimator): Of :func:`relative_model`.
        dataset (Dataset): With depth in metres, of :func:`training_images`.
        method (str): 'robust', :func:`robust_alignment`, or
            'least_squares'. Defaults to 'robust'.
        samples (int, optional): So many images, spread evenly over the data
            set. Defaults to None, all.
        bounds (Tuple): Depth in metres between which a pixel counts, both
            excluded; the upper one may be None. Defaults to (1e-3, None).
        with_metrics (bool): Score the result on the same images, which
            predicts each once more. Defaults to True.

    Returns:
        ScaleShift: The result. An image that cannot be read, has too few
        valid pixels or gets no scale above 0 is left out and named.

    Raises:
        UserValueError: If the method is unknown, or no image is left.
    """
    if method not in METHODS:
        raise UserValueError(f'method={method!r}, choose from {METHODS}')
    count = len(dataset)
    if count == 0:
        raise UserValueError('The data set has no images.')
    wanted = count if samples is None else min(samples, count)
    spread = np.linspace(0, count - 1, wanted).round().astype(int)
    indices: List[int] = spread.tolist()
    bad: Dict[str, str] = {}
    fits: Dict[str, Alignment] = {}
    for name, x, depth in _predictions(model, dataset, indices, bounds, bad):
        if method == 'robust':
            fit = robust_alignment(x, 1 / depth.double())
        else:
            fit = fit_alignment(x, 1 / depth.double(), 'least_squares')
        if fit.scale > 0:
            fits[name] = fit
        else:
            bad[name] = (
                'the prediction is constant'
                if fit.scale == 0
                else f'scale {fit.scale:.3g}: near and far are confused'
            )
    if not fits:
        some = '; '.join(f'{k}: {v}' for k, v in list(bad.items())[:3])
        raise UserValueError(f'None of {wanted} images can be used. {some}')
    scales = [fit.scale for fit in fits.values()]
    shifts = [fit.shift for fit in fits.values()]
    mean = Alignment(statistics.fmean(scales), statistics.fmean(shifts))
    metrics: Dict[str, float] = {}
    if with_metrics:
        pairs = _predictions(model, dataset, indices, bounds, dict(bad))
        metrics = _metrics(pairs, mean, bounds)
    return ScaleShift(
        *mean,
        statistics.pstdev(scales),
        statistics.pstdev(shifts),
        fits,
        bad,
        metrics,
    )
