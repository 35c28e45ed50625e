"""Synthetic batches in the form that data loaders give."""

from typing import Any, List, Sequence

import torch
from mmengine.config import Config
from torch import Tensor, nn

from .shrink import SIZE


def view_sizes(cfg: Config, size: int = SIZE) -> List[int]:
    """Sides of the views that a pre-training pipeline cuts, made small.

    Args:
        cfg (Config): With ``train_dataloader.dataset.pipeline``.
        size (int): Side of the largest view in pixels. Defaults to 64.

    Returns:
        List[int]: One side a view; views below the largest get three
        quarters of ``size``: 3x3 patches where the largest have 4x4.
    """
    sides: List[int] = []
    for step in cfg.train_dataloader.dataset.get('pipeline') or []:
        for view in step.get('views') or []:
            side = view.get('size', 224)
            side = side if isinstance(side, int) else max(side)
            sides += [side] * view.get('num', 1)
        counts = step.get('num_views') or []
        sides += [224] * sum([counts] if isinstance(counts, int) else counts)
    return [size if s == max(sides) else size * 3 // 4 for s in sides]


def _segmentation_batch(model: Any, batch: int, size: int) -> dict:
    from mmengine.structures import PixelData
    from mmseg.models.segmentors import DepthEstimator
    from mmseg.structures import SegDataSample

    metainfo = {
        'img_shape': (size, size),
        'ori_shape': (size, size),
        'pad_shape': (size, size),
    }
    samples = []
    for _ in range(batch):
        sample = SegDataSample(metainfo=metainfo)
        if isinstance(model, DepthEstimator):
            depth = torch.rand(1, size, size) * 9 + 0.5
            depth[:, :4] = 0  # not measured
            sample.gt_depth_map = PixelData(data=depth)
        else:
            classes = model.decode_head.num_classes
            labels = torch.randint(0, classes, (1, size, size))
            labels[:, :4] = 255
            sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return {'inputs': _images(batch, 3, size), 'data_samples': samples}


def _images(count: int, channels: int, size: int) -> List[Tensor]:
    shape = (channels, size, size)
    return [
        torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(count)
    ]


def _detection_batch(model: Any, batch: int, size: int) -> dict:
    from mmdet.testing import demo_mm_inputs

    head = model.roi_head.bbox_head
    head = head[0] if isinstance(head, nn.ModuleList) else head
    data = demo_mm_inputs(
        batch,
        image_shapes=[(3, size, size)] * batch,
        num_items=[2] * batch,
        num_classes=head.num_classes,
        with_mask=model.roi_head.with_mask,
    )
    for sample in data['data_samples']:
        ignored = sample.ignored_instances
        ignored.labels = torch.zeros(len(ignored), dtype=torch.long)
    return data


def tiny_batch(
    model: nn.Module,
    views: Sequence[int] = (SIZE, SIZE),
    batch: int = 2,
    size: int = SIZE,
    seed: int = 0,
) -> dict:
    """Synthetic batch in the form that a model's data loader gives.

    Args:
        model (nn.Module): A self-supervised method, a segmentor or depth
            estimator of mmseg's data flow, or a two-stage detector of
            mmdet's.
        views (Sequence[int]): Sides of the views in pixels, for
            self-supervised methods. Defaults to (64, 64).
        batch (int): Number of images. Defaults to 2.
        size (int): Side of labelled images in pixels. Defaults to 64.
        seed (int): Seed of the data. Defaults to 0.

    Returns:
        dict: ``inputs`` and ``data_samples`` for ``model.train_step``.

    Raises:
        NotImplementedError: If nothing is known about such a model.
    """
    from mmpretrain.models.selfsup import BaseSelfSupervisor
    from mmpretrain.structures import DataSample

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(model, BaseSelfSupervisor):
            return {
                'inputs': [torch.stack(_images(batch, 3, s)) for s in views],
                'data_samples': [DataSample() for _ in range(batch)],
            }
        if hasattr(model, 'decode_head'):
            return _segmentation_batch(model, batch, size)
        if hasattr(model, 'roi_head'):
            return _detection_batch(model, batch, size)
    raise NotImplementedError(
        f'mmdense.testing.tiny has no data for {type(model).__name__}: add '
        'it to tiny_batch.'
    )
