"""Depth metric of mmengine's evaluator, with named protocols."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from torch import Tensor

from mmdense.registry import METRICS

from ..functional.depth import (
    CROPS,
    KB_SIZE,
    METRIC_NAMES,
    NYU_SIZE,
    SUM_NAMES,
    check_metric_names,
    clean_prediction,
    depth_sums,
    evaluation_region,
    kb_region,
    reduce_sums,
    valid_pixels,
)

#: What each named protocol fixes. Depths in metres, both bounds excluded.
PROTOCOLS: Dict[str, Dict[str, Any]] = {
    'nyu_eigen': dict(
        min_depth=1e-3, max_depth=10.0, crop='nyu_eigen', gt_size=NYU_SIZE
    ),
    'fastdepth': dict(min_depth=1e-3, max_depth=None, gt_size=(224, 224)),
    'kitti_garg': dict(
        min_depth=1e-3, max_depth=80.0, crop='garg', kb_crop=True
    ),
    'kitti_garg_full': dict(
        min_depth=1e-3,
        max_depth=80.0,
        crop='garg',
        kb_crop=True,
        crop_on='full',
    ),
    'kitti_eigen': dict(
        min_depth=1e-3, max_depth=80.0, crop='kitti_eigen', kb_crop=True
    ),
}
_DEFAULTS: Dict[str, Any] = dict(
    min_depth=1e-3,
    max_depth=None,
    crop='none',
    kb_crop=False,
    crop_on='kb',
    gt_size=None,
)


@METRICS.register_module()
class DepthMetric(BaseMetric):
    """Depth errors and accuracies under a named protocol.

    Per image only a dozen sums are kept, never pixels. Predictions are
    resized to the ground truth with bilinear interpolation
    (``align_corners=False``) if sizes differ, NaN and infinities go to the
    ends of the range, then values are clamped to it. Images without a valid
    ground-truth pixel are counted and skipped.

    Results are called ``<protocol>/<metric>``, so that no number goes without
    its protocol; ``images`` and ``skipped`` count images.

    Args:
        protocol (str, optional): Key of :data:`PROTOCOLS`: 'nyu_eigen',
            'fastdepth' (224x224, target > 0), 'kitti_garg',
            'kitti_garg_full', 'kitti_eigen'. None for a range and crop of
            your own, reported under ``depth/``. Defaults to None.
        depth_metrics (Sequence[str], optional): Metrics to report, from
            :data:`~mmdense.evaluation.functional.depth.METRIC_NAMES` or
            'silog@<lambda>'. None for all of the former. Defaults to None.
        reduction (str): 'image': mean of the per-image values; 'pixel': all
            pixels together. Defaults to 'image'.
        min_depth (float, optional): Lower bound in metres, excluded. None
            for the protocol's, or 1e-3. Defaults to None.
        max_depth (float, optional): Upper bound in metres, excluded. None
            for the protocol's, or no bound. Defaults to None.
        crop (str, optional): 'none', 'nyu_eigen', 'kitti_eigen' or 'garg'.
            None for the protocol's, or 'none'. Defaults to None.
        kb_crop (bool, optional): Whether predictions cover the 352x1216
            KITTI benchmark crop of a full-size ground truth. None for the
            protocol's, or False. Defaults to None.
        crop_on (str, optional): 'kb' or 'full', the map on which ``crop`` is
            laid if ``kb_crop``. None for the protocol's, or 'kb'. Defaults
            to None.
        collect_device (str): 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the results. None for the name of
            the protocol. Defaults to None.

    Raises:
        ValueError: If a name is unknown or an argument contradicts the
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
        crop_on: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device, prefix or protocol)
        given = dict(
            min_depth=min_depth,
            max_depth=max_depth,
            crop=crop,
            kb_crop=kb_crop,
            crop_on=crop_on,
        )
        setting = _resolve(protocol, given)
        self.protocol = protocol
        self.min_depth: float = setting['min_depth']
        self.max_depth: Optional[float] = setting['max_depth']
        self.crop: str = setting['crop']
        self.kb_crop: bool = setting['kb_crop']
        self.crop_on: str = setting['crop_on']
        self.gt_size: Optional[Tuple[int, int]] = setting['gt_size']
        if isinstance(depth_metrics, str):
            depth_metrics = [depth_metrics]
        self.depth_metrics = tuple(depth_metrics or METRIC_NAMES)
        check_metric_names(self.depth_metrics)
        # fails early on an unknown reduction
        reduce_sums(np.zeros((0, len(SUM_NAMES))), (), reduction)
        self.reduction = reduction

    @property
    def description(self) -> str:
        """str: The protocol in one line, printed with every result."""
        upper = 'inf' if self.max_depth is None else f'{self.max_depth:g}'
        parts = [
            f'protocol {self.protocol or "custom"}',
            f'{self.min_depth:g} m < target < {upper} m',
            f'crop {self.crop}',
            f'mean over {self.reduction}s',
        ]
        if self.kb_crop:
            parts.insert(3, f'KITTI benchmark crop (on {self.crop_on})')
        return ', '.join(parts)

    def process(
        self,
        data_batch: Any,  # noqa: ARG002
        data_samples: Sequence[dict],
    ) -> None:
        """Reduce a batch to sums.

        Args:
            data_batch (Any): Unused.
            data_samples (Sequence[dict]): Per image ``pred_depth_map.data``
                and ``gt_depth_map.data``, ``(1, H, W)`` in metres.
        """
        for sample in data_samples:
            pred, target = _maps(sample)
            try:
                row = self.score(pred, target)
            except ValueError as error:
                raise ValueError(
                    f'{sample.get("img_path", "<no img_path>")}: {error}'
                ) from error
            self.results.append(row)

    def score(self, pred: Tensor, target: Tensor) -> np.ndarray:
        """Sums of one image.

        Args:
            pred (Tensor): Predicted depth ``(h, w)`` in metres.
            target (Tensor): True depth ``(H, W)`` in metres, 0 = invalid.

        Returns:
            ndarray: float64, the sums of
            :func:`~mmdense.evaluation.functional.depth.depth_sums` and the
            number of scored pixels with a prediction that is not finite.

        Raises:
            ValueError: If the ground truth has another size than the
                protocol demands.
        """
        size = tuple(target.shape)
        if self.gt_size is not None and size != self.gt_size:
            raise ValueError(
                f'protocol {self.protocol!r} scores maps of {self.gt_size}, '
                f'but the ground truth is {size}; use the test pipeline of '
                'that protocol or leave protocol out'
            )
        region = evaluation_region(size, self.crop, self.kb_crop, self.crop_on)
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
        pred = region.of(_resized(pred.float(), size))
        mask = valid_pixels(target, self.min_depth, self.max_depth)
        broken = (~torch.isfinite(pred) & mask.to(pred.device)).sum().item()
        pred = clean_prediction(pred, self.min_depth, self.max_depth)
        return np.append(depth_sums(pred, target, mask), broken)

    def compute_metrics(self, results: List[np.ndarray]) -> Dict[str, float]:
        """Metrics of all images.

        Args:
            results (List[ndarray]): One row of :meth:`score` per image.

        Returns:
            Dict[str, float]: The metrics, then ``images`` (scored) and
            ``skipped`` (no valid ground truth).
        """
        logger = MMLogger.get_current_instance()
        if not results:
            raise ValueError(
                'DepthMetric: no image was evaluated; the validation set is '
                'empty (val_dataloader.dataset.indices, data_prefix)'
            )
        table = np.stack(results)
        scored = int((table[:, 0] > 0).sum())
        skipped = len(table) - scored
        values = reduce_sums(
            table[:, : len(SUM_NAMES)], self.depth_metrics, self.reduction
        )
        print_log(f'Depth: {self.description}', logger)
        if skipped:
            print_log(
                f'Depth: {skipped} of {len(table)} images have no valid '
                'ground truth and were skipped',
                logger,
                level=30,
            )
        broken = int(table[:, -1].sum())
        if broken:
            print_log(
                f'Depth: {broken} predicted pixels are NaN or infinite and '
                'were scored as an end of the range',
                logger,
                level=30,
            )
        return {**values, 'images': scored, 'skipped': skipped}


def _resolve(protocol: Optional[str], given: Dict[str, Any]) -> Dict[str, Any]:
    """Defaults, then the protocol, then what is given and does not clash."""
    setting = dict(_DEFAULTS)
    if protocol is not None:
        if protocol not in PROTOCOLS:
            raise ValueError(
                f'DepthMetric: unknown protocol {protocol!r}, choose from '
                f'{tuple(PROTOCOLS)} or leave it out'
            )
        setting.update(PROTOCOLS[protocol])
    for name, value in given.items():
        if value is None:
            continue
        if protocol is not None and value != setting[name]:
            raise ValueError(
                f'DepthMetric: protocol {protocol!r} fixes '
                f'{name}={setting[name]!r}, got {value!r}; leave protocol '
                'out to evaluate in a way of your own'
            )
        setting[name] = value
    if setting['crop'] not in CROPS:
        raise ValueError(
            f'DepthMetric: crop={setting["crop"]!r}, choose from {CROPS}'
        )
    return setting


def _maps(sample: dict) -> Tuple[Tensor, Tensor]:
    for key in ('pred_depth_map', 'gt_depth_map'):
        if key not in sample:
            raise KeyError(
                f'{sample.get("img_path", "<no img_path>")}: DepthMetric '
                f'needs {key}; load depth in the test pipeline and test a '
                'mmdense.DepthEstimator'
            )
    pred = sample['pred_depth_map']['data']
    target = sample['gt_depth_map']['data']
    return (
        pred.reshape(pred.shape[-2:]),
        target.reshape(target.shape[-2:]),
    )


def _resized(depth: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(depth.shape) == tuple(size):
        return depth
    return F.interpolate(
        depth[None, None], tuple(size), mode='bilinear', align_corners=False
    )[0, 0]
