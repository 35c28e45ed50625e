"""Weighted human disagreement rate on pairs of points."""

from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np
from mmengine.logging import MMLogger, print_log

from mmdense.registry import METRICS
from mmdense.utils.errors import UserValueError

from ..functional.depth import wrong_pairs
from .row_metric import Row, RowMetric


@METRICS.register_module()
class WHDRMetric(RowMetric):
    """Share of point pairs whose order the prediction gets wrong, in percent.

    All pairs have weight 1. Nothing has to be aligned: order survives a
    positive scale and any shift. Results are ``whdr/whdr``, ``whdr/images``
    and ``whdr/pairs``.

    Sources: [0] Chen et al., Single-Image Depth Perception in the Wild,
    2016.

    Args:
        prediction (str): 'depth' or 'inverse', what the model predicts.
            Defaults to 'inverse'.
        datasets (str or Sequence[str], optional): See
            :class:`~mmdense.evaluation.metrics.row_metric.RowMetric`.
            Defaults to None.
        csv_file (str, optional): See there. Columns: image, data set, pairs,
            wrong pairs, whdr. Defaults to None.
        collect_device (str): 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the results. None for 'whdr'.
            Defaults to None.

    Raises:
        UserValueError: If ``prediction`` is unknown.
    """

    default_prefix = 'whdr'

    def __init__(
        self,
        prediction: str = 'inverse',
        datasets: Optional[Union[str, Sequence[str]]] = None,
        csv_file: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(datasets, csv_file, collect_device, prefix)
        if prediction not in ('depth', 'inverse'):
            raise UserValueError(
                f"WHDRMetric: prediction={prediction!r}, choose 'depth' or "
                "'inverse'"
            )
        self.prediction = prediction

    def score_sample(self, sample: Dict[str, Any]) -> np.ndarray:
        """Pairs of one image.

        Args:
            sample (dict): ``pred_depth_map.data`` ``(1, H, W)``,
                ``depth_pairs`` (see
                :func:`~mmdense.evaluation.functional.depth.wrong_pairs`) and
                ``depth_pairs_size``, height and width of the image in which
                they were marked (None: ``ori_shape``).

        Returns:
            ndarray: Number of pairs and of wrong ones.
        """
        for key in ('pred_depth_map', 'depth_pairs'):
            if sample.get(key) is None:
                raise UserValueError(
                    f'no {key} (dataset_name='
                    f'{sample.get("dataset_name")!r}); WHDR needs pairs of '
                    'points, as mmdense.DIW has, packed by '
                    'mmdense.PackDepthInputs; restrict datasets of the metric'
                )
        pred = sample['pred_depth_map']['data']
        size = sample.get('depth_pairs_size') or sample['ori_shape']
        wrong, pairs = wrong_pairs(
            pred.reshape(pred.shape[-2:]),
            sample['depth_pairs'],
            tuple(size)[:2],
            self.prediction,
        )
        return np.array([pairs, wrong], dtype=np.float64)

    def summarize(self, table: np.ndarray) -> Dict[str, float]:
        """WHDR of some images.

        Args:
            table (ndarray): ``(N, 2)``, rows of :meth:`score_sample`.

        Returns:
            Dict[str, float]: ``whdr`` in percent, ``images``, ``pairs``.
        """
        pairs, wrong = table.sum(axis=0)
        whdr = 100 * wrong / pairs if pairs else float('nan')
        return dict(
            whdr=float(whdr),
            images=int((table[:, 0] > 0).sum()),
            pairs=int(pairs),
        )

    def csv_values(self, row: np.ndarray) -> Dict[str, Any]:
        """Columns of the CSV for one image.

        Args:
            row (ndarray): Of :meth:`score_sample`.

        Returns:
            Dict[str, Any]: Column to value.
        """
        pairs, wrong = row
        return dict(
            pairs=int(pairs),
            wrong=int(wrong),
            whdr=100 * wrong / pairs if pairs else '',
        )

    def log_summary(self, rows: List[Row]) -> None:
        """Log what was compared.

        Args:
            rows (List[Row]): Scored images.
        """
        print_log(
            f'WHDR: {len(rows)} images, predictions are {self.prediction} '
            'depth, all pairs count the same',
            MMLogger.get_current_instance(),
        )
