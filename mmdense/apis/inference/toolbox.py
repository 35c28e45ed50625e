"""What inference needs of a config: model, class names, input pipeline."""

from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from mmengine.registry import (
    DATASETS,
    FUNCTIONS,
    MODELS,
    VISUALIZERS,
    Registry,
)
from torch import nn

from ...utils.data_settings import inner_datasets
from ...utils.errors import UserValueError
from .pipeline import InferencePipeline

# mmdet takes a colour for one only if it is a tuple
Palette = List[Tuple[int, ...]]
_VISUALIZERS = {
    'segmentation': 'mmseg.SegLocalVisualizer',
    'detection': 'mmdet.DetLocalVisualizer',
}


def scope_of(cfg: Config) -> str:
    """Scope in which the types of a config are looked up."""
    return cfg.get('default_scope') or 'mmdense'


def _ancestors(registry: Registry, node: Any, cfg: Config) -> Dict[str, type]:
    """The class that a dict builds, and its bases, by name."""
    kind = node.get('type')
    # dicts inherited from another toolbox carry its scope
    scope = node.get('_scope_') or scope_of(cfg)
    with registry.switch_scope_and_registry(scope) as switched:
        found = switched.get(kind) if isinstance(kind, str) else kind
    return {base.__name__: base for base in getattr(found, '__mro__', ())}


def task_of(cfg: Config) -> str:
    """What the model of a config does.

    Args:
        cfg (Config): With ``model``.

    Returns:
        str: ``'segmentation'``, ``'detection'`` or ``'depth'``.

    Raises:
        UserValueError: If it does none of these.
    """
    model = cfg.get('model') or {}
    kind, names = model.get('type'), _ancestors(MODELS, model, cfg)
    if 'DepthEstimator' in names:
        return 'depth'
    if 'BaseSegmentor' in names:
        return 'segmentation'
    if 'BaseDetector' in names:
        return 'detection'
    raise UserValueError(
        f'model.type={kind!r} is neither a segmentor or depth estimator of '
        'mmseg nor a detector of mmdet. Give the config of a fine-tuned '
        'model, not that of its pre-training.'
    )


def _metainfo(cfg: Config) -> Dict[str, Any]:
    """Classes and palette of a config's test data, read from no file."""
    dataset = inner_datasets(cfg.test_dataloader.dataset)[0]
    bases = list(_ancestors(DATASETS, dataset, cfg).values())
    own = dict(getattr(bases[0], 'METAINFO', {})) if bases else {}
    own.update(dataset.get('metainfo') or {})
    return {key.lower(): value for key, value in own.items()}


def _colors(count: int) -> Palette:
    """Colours that differ, the same at each call."""
    state = np.random.RandomState(42)
    return list(map(tuple, state.randint(0, 256, (count, 3)).tolist()))


def dataset_meta(
    checkpoint: Dict[str, Any], cfg: Config, count: Optional[int]
) -> Dict[str, Any]:
    """Names and colours of the classes.

    Those that the checkpoint was trained with count first, then those of the
    config's test data.

    Args:
        checkpoint (dict): As loaded.
        cfg (Config): With ``test_dataloader``.
        count (int, optional): Number of classes of the model, None if not
            known.

    Returns:
        dict: ``classes`` (tuple of str) and ``palette`` (list of RGB).
    """
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    stored = dict(meta.get('dataset_meta') or {})
    for old in ('CLASSES', 'PALETTE'):
        if meta.get(old) is not None:
            stored.setdefault(old, meta[old])
    stored = {key.lower(): value for key, value in stored.items()}
    own = _metainfo(cfg)
    classes = stored.get('classes') or own.get('classes') or ()
    classes = (classes,) if isinstance(classes, str) else tuple(classes)
    if count is not None and len(classes) != count:
        if classes:
            print_log(
                f'{len(classes)} class names for a model of {count} classes: '
                'numbers are shown instead.',
                logger='current',
            )
        classes = tuple(f'class {index}' for index in range(count))
    for palette in (stored.get('palette'), own.get('palette')):
        if isinstance(palette, (list, tuple)):
            if len(palette) == len(classes):
                palette = [tuple(int(v) for v in color) for color in palette]
                return {'classes': classes, 'palette': palette}
    return {'classes': classes, 'palette': _colors(len(classes))}


def _number_of_classes(cfg: Config) -> Optional[int]:
    """What the head of a model has been given, None if not found."""
    stack: List[Any] = [
        cfg.model.get(key)
        for key in ('roi_head', 'bbox_head', 'decode_head')
        if cfg.model.get(key) is not None
    ]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if isinstance(node.get('num_classes'), int):
                return node['num_classes']
            stack += [v for k, v in node.items() if 'loss' not in k]
        elif isinstance(node, (list, tuple)):
            stack += list(node)
    return None


def load_weights(model: nn.Module, checkpoint: Dict[str, Any]) -> None:
    """Load all weights of a model.

    Args:
        model (nn.Module): The model.
        checkpoint (dict): State dict, or a dict with one under
            ``'state_dict'``.

    Raises:
        UserValueError: If a parameter is missing or has another shape.
    """
    state = checkpoint.get('state_dict', checkpoint)
    # of a model that was saved inside of its parallel wrapper
    if all(key.startswith('module.') for key in state):
        state = {key[len('module.') :]: v for key, v in state.items()}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:  # shapes, positions
        text = str(error).split('\n\t', 1)[-1].split('\n')[0].strip()
        raise UserValueError(
            f'The weights do not fit the config: {text}'
        ) from error
    wanted = {name for name, _ in model.named_parameters()}
    lost = [key for key in missing if key in wanted]
    if lost:
        raise UserValueError(
            f'The weights do not fit the config: {len(lost)} of '
            f'{len(wanted)} parameters are missing, for instance {lost[:3]}; '
            f'the file holds {list(state)[:3]}. Give the checkpoint of the '
            'fine-tuning, not that of the pre-training.'
        )
    if unexpected:
        print_log(
            f'{len(unexpected)} weights have no place in the model, for '
            f'instance {unexpected[:3]}.',
            logger='current',
        )


def stock_inferencer(
    task: str, cfg: Config, checkpoint: Dict[str, Any], device: str
) -> Any:
    """Inferencer of mmseg or mmdet with weights that are in memory already.

    Args:
        task (str): See :func:`task_of`.
        cfg (Config): Complete; changed.
        checkpoint (dict): As loaded.
        device (str): For the model.

    Returns:
        MMSegInferencer or DetInferencer: Its pipeline gives the packed data
        and the picture as it was loaded.
    """
    if task == 'segmentation':
        from mmseg import apis

        base: Any = apis.MMSegInferencer
    else:
        from mmdet import apis

        base = apis.DetInferencer

    class _Inferencer(base):
        def _load_weights_to_model(self, model: Any, _: Any, cfg: Any) -> None:
            load_weights(model, checkpoint)
            model.dataset_meta = dataset_meta(
                checkpoint, cfg, _number_of_classes(cfg)
            )

        def _init_pipeline(self, cfg: Any) -> 'InferencePipeline':
            return InferencePipeline(
                inner_datasets(cfg.test_dataloader.dataset)[0]['pipeline']
            )

        def _init_collate(self, cfg: Any) -> Any:
            # FUNCTIONS has no child of ours to switch to
            own = cfg.test_dataloader.get('collate_fn')
            kind = own.get('type') if isinstance(own, dict) else own
            return pseudo_collate if kind is None else FUNCTIONS.get(kind)

    _set_visualizer(task, cfg)
    inferencer = _Inferencer(cfg, device=device, scope=scope_of(cfg))
    inferencer.show_progress = False
    return inferencer


def _set_visualizer(task: str, cfg: Config) -> None:
    """Keep the config's own if it can draw this; nothing is logged."""
    stock = _VISUALIZERS[task]
    own = cfg.get('visualizer') or {}
    if stock.partition('.')[2] not in _ancestors(VISUALIZERS, own, cfg):
        own = ConfigDict(type=stock)
    own.pop('save_dir', None)
    own['vis_backends'] = None
    own.setdefault('name', 'inference')
    cfg.visualizer = own
