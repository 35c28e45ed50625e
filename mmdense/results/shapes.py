"""Sizes and numbers of the images that a config trains on."""

from typing import Any, Dict, Iterator, Optional, Tuple

from ..utils.data_settings import repeats

# of an image that is resized by its short side; Cityscapes has 2:1
_ASPECT = {'cityscapes': 2.0}
_USUAL_ASPECT = 4 / 3
# words in the name of the training data -> training images
TRAIN_IMAGES = (
    ('imagenet-1k', 1281167),
    ('nyu depth v2, bts list', 24231),
    ('nyu', 47584),
    ('kitti', 23158),
    ('pascal context', 4998),
    ('ade20k', 20210),
    ('stuff', 118287),
    ('images only', 118287),
    # with at least one box
    ('coco', 117266),
    ('cityscapes', 2975),
    ('2007 + 2012', 16551),
    ('07+12', 16551),
    ('0712', 16551),
    ('voc', 10582),
    ('demo images', 439),
    ('demo rooms', 160),
)
Size = Tuple[int, int]


def _steps(pipeline: Any) -> Iterator[Dict[str, Any]]:
    """Transforms in order; of a random choice the first branch."""
    for step in pipeline:
        branches = step.get('transforms')
        if isinstance(branches, (list, tuple)) and branches:
            first = branches[0]
            first = first if isinstance(first, (list, tuple)) else branches
            yield from _steps(first)
        else:
            yield step


def _resized(step: Dict[str, Any], aspect: float) -> Optional[Size]:
    """Size after a resizing transform; the mean one of several."""
    scales = step.get('scales') or step.get('scale')
    if scales is None:
        return None
    if not isinstance(scales[0], (tuple, list)):
        scales = [scales]
    kind = step['type'].rsplit('.', 1)[-1]
    keeps = step.get('keep_ratio', kind.startswith('Random'))
    if not keeps:
        width, height = scales[0]
        return height, width
    short = sum(min(s) for s in scales) / len(scales)
    long = min(short * aspect, max(max(s) for s in scales))
    return round(short), round(long)


def training_shape(pipeline: Any, data: str = '') -> Optional[Size]:
    """Height and width that a training pipeline gives on average.

    Args:
        pipeline (List[dict]): Transforms.
        data (str): Name of the data, for the aspect of images that keep it.

    Returns:
        Size or None: None if no transform says it.
    """
    aspect = next(
        (a for name, a in _ASPECT.items() if name in data.lower()),
        _USUAL_ASPECT,
    )
    size: Optional[Size] = None
    for step in _steps(pipeline):
        kind = step['type'].rsplit('.', 1)[-1]
        if kind == 'FixedCrop' and step.get('size'):
            size = (step['size'][0], step['size'][1])
        elif kind == 'RandomCrop':
            relative = 'range' in step.get('crop_type', 'absolute')
            side = step['crop_size']
            if not relative:
                size = (side[0], side[1])
        elif kind == 'CenterCrop':
            width, height = step['crop_size']
            size = (height, width)
        elif 'Resize' in kind:
            size = _resized(step, aspect) or size
    return size


def images_seen(cfg: Any, data: str) -> Optional[float]:
    """Images that a training sees, repeated ones counted.

    Args:
        cfg (Config): With ``train_cfg`` and ``auto_scale_lr``.
        data (str): ``Training Data`` of the metafile.

    Returns:
        float or None: None if the size of the data is not known.
    """
    loop = cfg['train_cfg']
    if loop.get('max_iters'):
        return float(loop['max_iters'] * total_batch(cfg))
    text = data.lower()
    number = next((n for word, n in TRAIN_IMAGES if word in text), None)
    if number is None:
        return None
    times = repeats(cfg['train_dataloader']['dataset'])
    return float(loop['max_epochs'] * times * number)


def total_batch(cfg: Any) -> int:
    """Images of a step, over all processes."""
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    return base or cfg['train_dataloader']['batch_size']
