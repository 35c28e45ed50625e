"""Depth metric of mmengine's evaluator, with named protocols."""

import math
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger, print_log
from torch import Tensor

from mmdense.registry import METRICS
from mmdense.utils.errors import UserValueError

from ..functional.depth import (
    KB_SIZE,
    SUM_NAMES,
    align_depth,
    check_metric_names,
    clean_prediction,
    depth_sums,
    evaluation_region,
    is_scored,
    kb_region,
    metrics_from_sums,
    reduce_sums,
    valid_pixels,
)
from ..functional.depth.sums import chosen
from .depth_protocols import resolve
from .row_metric import Row, RowMetric

_SUMS = len(SUM_NAMES)
_EMPTY = 'no valid ground truth'
_CONSTANT = 'constant ground truth'


@METRICS.register_module()
class DepthMetric(RowMetric):
    """Depth errors and accuracies under a named protocol.

    Per image only a dozen sums are kept, never pixels. Predictions are
    resized to the ground truth with bilinear interpolation
    (``align_corners=False``) if sizes differ, aligned if asked for, NaN and
    infinities go to the ends of the range, then values are clamped to it.
    Images without a valid ground-truth pixel are counted, named and skipped;
    with 'least_squares' also those whose ground truth is constant, to which
    every prediction could be aligned without an error.

    Results are called ``<protocol>/<metric>``, so that no number goes without
    its protocol; ``images`` and ``skipped`` count images.

    Args:
        protocol (str, optional): Key of
            :data:`~mmdense.evaluation.metrics.depth_protocols.PROTOCOLS`:
            'nyu_eigen', 'fastdepth' (224x224, target > 0), 'kitti_garg',
            'kitti_garg_full', 'kitti_eigen', 'cityscapes_garg_200',
            'cityscapes_garg_80', 'zero_shot_<set>' (nyu, kitti, tum, eth3d,
            sintel), 'affine_ablation'. None for one of your own, reported
            under ``depth/``. Defaults to None.
        depth_metrics (Sequence[str], optional): Metrics to report, from
            :data:`~mmdense.evaluation.functional.depth.METRIC_NAMES`,
            ``EXTRA_METRIC_NAMES`` or 'silog@<lambda>'. None for those of the
            protocol, or all of the first. Defaults to None.
        reduction (str): 'image': mean of the per-image values; 'pixel': all
            pixels together. Defaults to 'image'.
        min_depth (float, optional): Lower bound in metres, excluded. None
            for the protocol's, or 1e-3. Defaults to None.
        max_depth (float, optional): Upper bound in metres, excluded, and cap
            of aligned predictions. None for the protocol's, or no bound.
            Defaults to None.
        crop (str, optional): 'none', 'nyu_eigen', 'kitti_eigen' or 'garg'.
            None for the protocol's, or 'none'. Defaults to None.
        kb_crop (bool, optional): Whether predictions cover the 352x1216
            KITTI benchmark crop of a full-size ground truth. None for the
            protocol's, or False. Defaults to None.
        garg_on (str, optional): 'kb' or 'full', the map on which ``crop``
            (any of them) is laid if ``kb_crop``. None for the protocol's, or
            'kb'. Defaults to None.
        alignment (str, optional): 'none', 'median' (scale) or
            'least_squares' (scale and shift), per image over the scored
            pixels. None for the protocol's, or 'none'. Defaults to None.
        alignment_space (str, optional): 'depth' or 'inverse' (fit inverse
            depth, cut at 1/``max_depth``, invert). None for the protocol's,
            or 'depth'. Defaults to None.
        prediction (str, optional): 'depth' or 'inverse', what the model
            predicts. None for the protocol's, or 'depth'. Defaults to None.
        datasets (str or Sequence[str], optional): See
            :class:`~mmdense.evaluation.metrics.row_metric.RowMetric`.
            Defaults to None.
        csv_file (str, optional): See there. Columns: image, data set, valid
            pixels, predicted ones that are not finite, scale, shift, why the
            image was skipped, every metric. Defaults to None.
        collect_device (str): 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the results. None for the name of
            the protocol. Defaults to None.

    Raises:
        UserValueError: If a name is unknown or an argument contradicts the
            protocol.
    """

    default_prefix = 'depth'

    def __init__(
        self,
        protocol: Optional[str] = None,
        depth_metrics: Optional[Sequence[str]] = None,
        reduction: str = 'image',
        min_depth: Optional[float] = None,
        max_depth: Optional[float] = None,
        crop: Optional[str] = None,
        kb_crop: Optional[bool] = None,
        garg_on: Optional[str] = None,
        alignment: Optional[str] = None,
        alignment_space: Optional[str] = None,
        prediction: Optional[str] = None,
        datasets: Optional[Union[str, Sequence[str]]] = None,
        csv_file: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(
            datasets, csv_file, collect_device, prefix or protocol
        )
        given = dict(
            min_depth=min_depth,
            max_depth=max_depth,
            crop=crop,
            kb_crop=kb_crop,
            garg_on=garg_on,
            alignment=alignment,
            alignment_space=alignment_space,
            prediction=prediction,
        )
        setting = resolve(protocol, given)
        self.protocol = protocol
        self.min_depth: float = setting['min_depth']
        self.max_depth: Optional[float] = setting['max_depth']
        self.crop: str = setting['crop']
        self.kb_crop: bool = setting['kb_crop']
        self.garg_on: str = setting['garg_on']
        self.gt_size: Optional[Tuple[int, int]] = setting['gt_size']
        self.alignment: str = setting['alignment']
        self.alignment_space: str = setting['alignment_space']
        self.prediction: str = setting['prediction']
        if isinstance(depth_metrics, str):
            depth_metrics = [depth_metrics]
        self.depth_metrics = tuple(depth_metrics or setting['metrics'])
        # fail early on unknown names
        check_metric_names(self.depth_metrics)
        deviations = [name for name in self.depth_metrics if 'dev' in name]
        if deviations and self.alignment != 'least_squares':
            raise UserValueError(
                f"DepthMetric: {deviations[0]} needs alignment='least_squares'"
                " (and alignment_space='inverse')"
            )
        reduce_sums(np.zeros((0, _SUMS)), (), reduction)
        self.reduction = reduction

    @property
    def description(self) -> str:
        """str: The protocol in one line, printed with every result."""
        upper = 'inf' if self.max_depth is None else f'{self.max_depth:g}'
        parts = [
            f'protocol {self.protocol or "custom"}',
            f'{self.min_depth:g} m < target < {upper} m',
            f'crop {self.crop}',
        ]
        if self.kb_crop:
            parts.append(f'KITTI benchmark crop (on {self.garg_on})')
        if self.prediction == 'inverse':
            parts.append('predictions are inverse depth')
        if self.alignment != 'none':
            space = self.alignment_space.replace('inverse', 'inverse depth')
            parts.append(f'aligned per image by {self.alignment} in {space}')
        parts.append(f'mean over {self.reduction}s')
        flip = {None: 'as in test_cfg', True: 'on', False: 'off'}
        parts.append(f'flip test {flip[self.flip_test]}')
        return ', '.join(parts)

    def score_sample(self, sample: Dict[str, Any]) -> np.ndarray:
        """Row of one image.

        Args:
            sample (dict): ``pred_depth_map.data`` and ``gt_depth_map.data``,
                ``(1, H, W)``.

        Returns:
            ndarray: See :meth:`score`.
        """
        return self.score(*_maps(sample))

    def score(self, pred: Tensor, target: Tensor) -> np.ndarray:
        """Sums of one image.

        Args:
            pred (Tensor): Prediction ``(h, w)``, in metres without an
                alignment.
            target (Tensor): True depth ``(H, W)`` in metres, 0 = invalid.

        Returns:
            ndarray: float64, the sums of
            :func:`~mmdense.evaluation.functional.depth.depth_sums`, then
            scale and shift of the alignment and the number of scored pixels
            with a prediction that is not finite. Without a solution of the
            alignment all of them but both numbers of pixels are NaN.

        Raises:
            ValueError: If the ground truth has another size than the
                protocol demands.
        """
        pred, target = self._cut(pred, target)
        mask = valid_pixels(target, self.min_depth, self.max_depth)
        index = chosen(mask)
        target = target.reshape(-1)
        pred = pred.reshape(-1)
        if index is not None:
            target = target.index_select(0, index)
            pred = pred.index_select(0, index.to(pred.device))
        target = target.to(pred.device)
        if pred.numel() == 0:
            return np.array([*np.zeros(_SUMS), 1.0, 0.0, 0.0])
        # NaN and infinities survive a sum
        broken = 0
        if not torch.isfinite(pred.sum()):
            broken = int((~torch.isfinite(pred)).sum())
        depth, fit, deviation = align_depth(
            pred,
            target,
            self.alignment,
            self.alignment_space,
            self.prediction,
            self.max_depth,
        )
        if math.isnan(fit.scale):
            nothing = np.full(_SUMS - 1, math.nan)
            return np.array([pred.numel(), *nothing, *fit, broken])
        if broken or self.alignment != 'none' or self.max_depth is None:
            depth = clean_prediction(depth, self.min_depth, self.max_depth)
        else:
            depth = depth.clamp(self.min_depth, self.max_depth)
        sums = depth_sums(depth, target)
        sums[-1] = deviation
        return np.array([*sums, *fit, broken])

    def _cut(self, pred: Tensor, target: Tensor) -> Tuple[Tensor, Tensor]:
        """The scored rectangle of both, the prediction resized."""
        size = tuple(target.shape)
        if self.gt_size is not None and size != tuple(self.gt_size):
            raise ValueError(
                f'protocol {self.protocol!r} scores maps of {self.gt_size}, '
                f'but the ground truth is {size}; use the test pipeline of '
                'that protocol or leave protocol out'
            )
        region = evaluation_region(size, self.crop, self.kb_crop, self.garg_on)
        target = region.of(target)
        if self.kb_crop and tuple(pred.shape) != size:
            kb = kb_region(size)
            region = region._replace(
                top=region.top - kb.top,
                bottom=region.bottom - kb.top,
                left=region.left - kb.left,
                right=region.right - kb.left,
            )
            size = KB_SIZE
        return region.of(_resized(pred.float(), size)), target

    def summarize(self, table: np.ndarray) -> Dict[str, float]:
        """Metrics of some images.

        Args:
            table (ndarray): ``(N, n)``, rows of :meth:`score`.

        Returns:
            Dict[str, float]: The metrics, then ``images`` (scored) and
            ``skipped`` (no valid ground truth, or a constant one).
        """
        scored = int(is_scored(table).sum())
        values = reduce_sums(
            table[:, :_SUMS], self.depth_metrics, self.reduction
        )
        return {**values, 'images': scored, 'skipped': len(table) - scored}

    def csv_values(self, row: np.ndarray) -> Dict[str, Any]:
        """Columns of the CSV for one image.

        Args:
            row (ndarray): Of :meth:`score`.

        Returns:
            Dict[str, Any]: Column to value; metrics are empty for an image
            that was skipped.
        """
        scale, shift, broken = row[_SUMS:]
        empty = not is_scored(row[None])[0]
        metrics: Dict[str, Any] = dict.fromkeys(self.depth_metrics, '')
        reason = ''
        if not empty:
            metrics = dict(metrics_from_sums(row[:_SUMS], self.depth_metrics))
        else:
            reason = _CONSTANT if row[0] else _EMPTY
        return dict(
            valid_pixels=int(row[0]),
            broken_pixels=int(broken),
            scale='' if empty else float(scale),
            shift='' if empty else float(shift),
            skipped=reason,
            **metrics,
        )

    def log_summary(self, rows: List[Row]) -> None:
        """Log the protocol, skipped images and broken predictions.

        Args:
            rows (List[Row]): Scored images.
        """
        print_log(
            f'Depth: {self.description}', MMLogger.get_current_instance()
        )
        numbers = [(path, row) for path, _, row in rows if row is not None]
        empty = [path for path, row in numbers if row[0] == 0]
        if empty:
            self._warn(
                f'{len(empty)} of {len(rows)} images have {_EMPTY} and were '
                f'skipped: {_some(empty)}'
            )
        flat = [path for path, row in numbers if row[0] and math.isnan(row[1])]
        if flat:
            self._warn(
                f'{len(flat)} of {len(rows)} images have {_CONSTANT}, to '
                'which nothing can be aligned, and were skipped: '
                f'{_some(flat)}'
            )
        broken = [path for path, row in numbers if row[-1] > 0]
        if broken:
            total = int(sum(row[-1] for _, row in numbers))
            self._warn(
                f'{total} predicted pixels are NaN or infinite and were '
                f'scored as an end of the range, in {len(broken)} images: '
                f'{_some(broken)}'
            )


def _some(paths: List[str], most: int = 3) -> str:
    rest = len(paths) - most
    return ', '.join(paths[:most]) + (f' and {rest} more' if rest > 0 else '')


def _maps(sample: dict) -> Tuple[Tensor, Tensor]:
    for key in ('pred_depth_map', 'gt_depth_map'):
        if key not in sample:
            raise UserValueError(
                f'no {key} (dataset_name={sample.get("dataset_name")!r}); '
                'load depth in the test pipeline, test a '
                'mmdense.DepthEstimator, and restrict datasets of the metric '
                'to sets with depth maps'
            )
    maps = []
    for key in ('pred_depth_map', 'gt_depth_map'):
        data = sample[key]['data']
        if data.dim() < 2 or data.shape[-2:].numel() != data.numel():
            raise UserValueError(
                f'{key} has the shape {tuple(data.shape)}, expected (1, H, W)'
            )
        maps.append(data.reshape(data.shape[-2:]))
    return maps[0], maps[1]


def _resized(depth: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(depth.shape) == tuple(size):
        return depth
    return F.interpolate(
        depth[None, None], tuple(size), mode='bilinear', align_corners=False
    )[0, 0]
