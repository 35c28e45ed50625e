"""Training and evaluation steps, and what comes out of them."""

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.optim import OptimWrapper
from mmengine.registry import EVALUATOR, DefaultScope
from torch import Tensor

from ...evaluation.metrics.depth_protocols import PROTOCOLS


class Steps(NamedTuple):
    """What some training steps did.

    Attributes:
        losses (List[Dict[str, float]]): Logged values of each step.
        without_gradient (List[str]): Trainable parameters that got no
            gradient in the last step.
    """

    losses: List[Dict[str, float]]
    without_gradient: List[str]


@contextmanager
def _kept_gradients(wrapper: OptimWrapper) -> Iterator[None]:
    zero_grad = wrapper.zero_grad
    wrapper.zero_grad = lambda **kwargs: None
    try:
        yield
    finally:
        wrapper.zero_grad = zero_grad


def train_steps(
    model: Any, batch: dict, wrapper: OptimWrapper, steps: int = 2
) -> Steps:
    """Take training steps as the loops of mmengine do, teacher included.

    Args:
        model (nn.Module): With ``train_step``.
        batch (dict): See :func:`tiny_batch`.
        wrapper (OptimWrapper): Holds the optimiser.
        steps (int): At least 1. Defaults to 2.

    Returns:
        Steps: Losses, and parameters without a gradient.
    """
    losses: List[Dict[str, float]] = []

    def step() -> None:
        logged = model.train_step(batch, optim_wrapper=wrapper)
        losses.append({k: float(v) for k, v in logged.items()})

    # mmdense.MomentumUpdateHook
    has_teacher = hasattr(model, 'after_step')
    for index in range(steps):
        if has_teacher:
            model.before_step(index / steps)
        if index < steps - 1:
            step()
        else:
            wrapper.zero_grad(set_to_none=True)
            with _kept_gradients(wrapper):
                step()
        if has_teacher:
            model.after_step(index / steps)
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    return Steps(losses, missing)


def _coco_file(batch: dict, classes: List[str], path: Path) -> str:
    """Annotations of a synthetic batch, as COCO has them."""
    images: List[dict] = []
    annotations: List[dict] = []
    for sample in batch['data_samples']:
        height, width = sample.ori_shape[:2]
        images.append(dict(id=sample.img_id, height=height, width=width))
        for box, label in zip(
            sample.gt_instances.bboxes, sample.gt_instances.labels
        ):
            x1, y1, x2, y2 = (float(value) for value in box)
            corners = [x1, y1, x2, y1, x2, y2, x1, y2]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=sample.img_id,
                    category_id=int(label),
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    segmentation=[corners],
                    iscrowd=0,
                )
            )
    categories = [dict(id=i, name=name) for i, name in enumerate(classes)]
    content = dict(
        images=images, annotations=annotations, categories=categories
    )
    path.write_text(json.dumps(content))
    return str(path)


def _wants_size(protocol: Optional[str]) -> bool:
    """Whether a protocol of depth scores maps of a fixed size alone."""
    setting = PROTOCOLS.get(protocol or '', {})
    return bool(setting.get('gt_size') or setting.get('kb_crop'))


def evaluation_step(
    model: Any, batch: dict, cfg: Config, folder: Path
) -> Dict[str, float]:
    """Evaluate a batch with the metrics of a config.

    Args:
        model (nn.Module): Segmentor, depth estimator or detector.
        batch (dict): See :func:`tiny_batch`.
        cfg (Config): With ``val_evaluator``.
        folder (Path): Where annotations that a metric reads are written.

    Returns:
        Dict[str, float]: What the metrics give.
    """
    head = getattr(model, 'decode_head', None)
    if head is None:
        head = model.roi_head.bbox_head
        head = head if hasattr(head, 'num_classes') else head[0]
    # heads for depth have none
    count = getattr(head, 'num_classes', 0)
    classes = [f'class{i}' for i in range(count)]
    metrics = cfg.val_evaluator
    metrics = metrics if isinstance(metrics, list) else [metrics]
    for metric in metrics:
        metric.pop('datasets', None)  # synthetic images are of none
        if _wants_size(metric.get('protocol')):
            del metric['protocol']
        if 'ann_file' in metric:
            path = folder / 'annotations.json'
            metric['ann_file'] = _coco_file(batch, classes, path)
    scope = cfg.get('default_scope', 'mmdense')
    with DefaultScope.overwrite_default_scope(scope):
        evaluator: Evaluator = EVALUATOR.build(
            dict(type='Evaluator', metrics=metrics)
        )
    evaluator.dataset_meta = dict(classes=classes, dataset_type='VOC2007')
    training = model.training
    model.eval()
    with torch.no_grad():
        outputs = model.val_step(batch)
    model.train(training)
    evaluator.process(data_samples=outputs, data_batch=batch)
    return evaluator.evaluate(len(outputs))


def tensors_of(output: Any) -> Iterator[Tuple[str, Tensor]]:
    """Tensors of a nested output, with the path to each.

    Args:
        output: Tensors in dicts, lists and tuples; other things are skipped.

    Yields:
        Tuple[str, Tensor]: Path such as ``'[0].patches'``, and the tensor.
    """
    if isinstance(output, Tensor):
        yield '', output
    elif isinstance(output, dict):
        for key, value in output.items():
            for path, tensor in tensors_of(value):
                yield f'.{key}{path}', tensor
    elif isinstance(output, (list, tuple)):
        for index, value in enumerate(output):
            for path, tensor in tensors_of(value):
                yield f'[{index}]{path}', tensor
