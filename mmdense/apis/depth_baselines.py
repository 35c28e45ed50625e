"""Score predictors that give one depth everywhere."""

from copy import deepcopy
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData

from ..registry import DATASETS
from ..utils.data_settings import inner_datasets
from ..utils.errors import UserValueError
from ..visualization import DepthStatistics


def read_sample(
    dataset: Any, index: int
) -> Tuple[np.ndarray, np.ndarray, Any]:
    """Image and depth of a sample, whatever the pipeline packs.

    Args:
        dataset (BaseDataset): Built data set.
        index (int): Index.

    Returns:
        tuple: RGB image ``(h, w, 3)``, depth ``(H, W)``, data sample or
        None.

    Raises:
        UserValueError: If there is no depth.
    """
    # not dataset[index], which replaces bad samples by others
    data = dataset.prepare_data(index)
    if data is None:
        raise UserValueError('the pipeline gave nothing for it')
    sample = data.get('data_samples')
    if sample is None:
        if 'gt_depth_map' not in data:
            raise UserValueError('the pipeline loads no depth for it')
        image, depth = data['img'], data['gt_depth_map']
    else:
        if 'gt_depth_map' not in sample:
            raise UserValueError('the pipeline loads no depth for it')
        image = data['inputs'].permute(1, 2, 0).numpy()
        depth = sample.gt_depth_map.data.numpy()[0]
    image = np.clip(image, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(image[..., ::-1]), np.asarray(depth), sample


def reason_of(dataset: Any, index: int, error: Exception) -> str:
    """What is wrong with a sample, with the path of its image.

    Args:
        dataset (BaseDataset): Built data set.
        index (int): Index.
        error (Exception): From reading it.

    Returns:
        str: One text.
    """
    path = dataset.get_data_info(index).get('img_path', f'sample {index}')
    text = str(error) or type(error).__name__
    return text if str(path) in text else f'{path}: {text}'


def baselines(
    cfg: Config, found: Sequence[DepthStatistics]
) -> Tuple[Dict[str, Dict[str, float]], List[str]]:
    """Score constant depths on the validation set.

    Args:
        cfg (Config): The config.
        found (Sequence[DepthStatistics]): Of the training sets.

    Returns:
        Tuple[Dict[str, Dict[str, float]], List[str]]: Metrics by name of the
        predictor, and the samples that could not be used.

    Raises:
        UserValueError: If there is nothing to take constants from or to score
            them on.
    """
    split = next(
        (
            split
            for split in ('val', 'test')
            if cfg.get(f'{split}_dataloader') and cfg.get(f'{split}_evaluator')
        ),
        None,
    )
    if split is None:
        raise UserValueError(
            f'--baseline needs val_dataloader and val_evaluator in '
            f'{cfg.filename}.'
        )
    train = [one for one in found if one.valid]
    if not train:
        raise UserValueError(
            '--baseline takes its constants from the training set, of which '
            'no sample could be read; --split has to name train.'
        )
    whole = DepthStatistics()
    for one in train:
        whole.merge(one)
    scores: Dict[str, Dict[str, float]] = {}
    bad: List[str] = []
    for name, value in (
        ('training median', whole.median),
        ('best d1 in training', whole.best_constant()),
    ):
        label = f'{value:.3f} m ({name})'
        scores[label], bad = score_constant(cfg, split, value)
    return scores, bad


def score_constant(
    cfg: Config, split: str, value: float
) -> Tuple[Dict[str, float], List[str]]:
    """Metrics of one depth everywhere.

    Args:
        cfg (Config): With data loader and evaluator of the split.
        split (str): 'val' or 'test'.
        value (float): The depth.

    Returns:
        Tuple[Dict[str, float], List[str]]: As a validation would log them;
        samples that could not be used.

    Raises:
        UserValueError: If no sample can be used.
    """
    metrics = deepcopy(cfg[f'{split}_evaluator'])
    metrics = (
        list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
    )
    for metric in metrics:
        # it holds the lines of real predictions
        metric.pop('csv_file', None)
    evaluator = Evaluator(metrics)
    inverse = any(
        getattr(metric, 'prediction', 'depth') == 'inverse'
        for metric in evaluator.metrics
    )
    value = 1 / value if inverse else value
    total = 0
    bad: List[str] = []
    for config in inner_datasets(cfg[f'{split}_dataloader'].dataset):
        dataset = DATASETS.build(deepcopy(config))
        for index in range(len(dataset)):
            try:
                _, _, sample = read_sample(dataset, index)
            except Exception as error:  # whatever a file can do to a loader
                bad.append(reason_of(dataset, index, error))
                continue
            if sample is None:
                raise UserValueError(
                    'The validation pipeline packs no data sample: end it '
                    'with mmdense.PackDepthInputs or mmseg.PackSegInputs.'
                )
            given = sample.gt_depth_map.data
            filled = given.new_full(given.shape, value)
            sample.pred_depth_map = PixelData(data=filled)
            evaluator.process([sample])
            total += 1
    if not total:
        raise UserValueError(
            f'--baseline: no sample of {split}_dataloader can be used: '
            f'{"; ".join(bad[:1]) or "it is empty"}'
        )
    return evaluator.evaluate(total), bad
