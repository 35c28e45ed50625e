"""Names, configs and weights of the models that mmdense provides."""

import difflib
import fnmatch
import os.path as osp
from typing import Any, Dict, List, Optional, Union

import torch
import yaml
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import nn

from ..registry import MODELS
from ..utils.checkpoint import load_checkpoint_file, local_file
from ..utils.zoo_root import zoo_root


def model_index() -> Dict[str, Dict[str, Any]]:
    """All models of the zoo.

    Returns:
        Dict[str, dict]: Model name to its entry of ``metafile.yml``, with an
        absolute path under ``Config``.
    """
    root = zoo_root()
    index = yaml.safe_load((root / 'model-index.yml').read_text()) or {}
    models: Dict[str, Dict[str, Any]] = {}
    for name in index.get('Import') or []:
        metafile = yaml.safe_load((root / name).read_text())
        for entry in metafile.get('Models', []):
            entry = dict(entry, Config=str(root / entry['Config']))
            if entry['Name'] in models:
                raise ValueError(f'{name}: {entry["Name"]} is listed twice.')
            models[entry['Name']] = entry
    return models


def list_models(
    pattern: Optional[str] = None, task: Optional[str] = None
) -> List[str]:
    """Names of the models.

    Args:
        pattern (str, optional): Shell pattern; ``'*'`` is added at its end.
            Defaults to None, all models.
        task (str, optional): Keep models with results in this task, for
            instance ``'Semantic Segmentation'``. Defaults to None.

    Returns:
        List[str]: Sorted names.
    """
    models = model_index()
    names = fnmatch.filter(models, f'{pattern or ""}*')
    if task is not None:
        names = [
            name
            for name in names
            if task in [r['Task'] for r in models[name].get('Results') or []]
        ]
    return sorted(names)


def model_config(name: str) -> Config:
    """Config of a model by name or path.

    Args:
        name (str): A name of :func:`list_models`, or a config file.

    Returns:
        Config: The config.

    Raises:
        ValueError: If there is no such model; names the nearest ones.
    """
    if name.endswith('.py'):
        if not osp.isfile(name):
            raise ValueError(f'No config file {name}.')
        return Config.fromfile(name)
    models = model_index()
    if name not in models:
        near = difflib.get_close_matches(name, models, n=3, cutoff=0.4)
        raise ValueError(
            f'No model is called {name!r}. Nearest: {", ".join(near)}. '
            'mmdense.apis.list_models() gives all names.'
        )
    return Config.fromfile(models[name]['Config'])


def get_model(
    model: Union[str, Config],
    pretrained: Union[bool, str] = False,
    device: Union[str, torch.device, None] = None,
    trust: Optional[bool] = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a model of the zoo, in evaluation mode.

    Args:
        model (str or Config): A name of :func:`list_models`, a config file
            or a config.
        pretrained (bool or str): True loads the released weights, a string
            the file of that name. Defaults to False.
        device (str or torch.device, optional): Defaults to None, the CPU.
        trust (bool, optional): Allow weights that hold more than tensors.
        **kwargs: Entries of ``model`` in the config to change.

    Returns:
        nn.Module: The model.

    Raises:
        ValueError: If there is no such model, or it has no weights yet.
    """
    config = model if isinstance(model, Config) else model_config(model)
    weights: Optional[str] = pretrained or None  # type: ignore[assignment]
    if pretrained is True:
        entry = model_index().get(model, {}) if isinstance(model, str) else {}
        weights = entry.get('Weights')
        if weights is None:
            raise ValueError(
                f'No weights are released for {model}. Train them with '
                'tools/train.py, or pass the path of a file as pretrained.'
            )
    changed = Config({'model': config.model.to_dict()})
    changed.merge_from_dict({'model': kwargs})
    settings = changed.model
    scope = config.get('default_scope', 'mmdense')
    with DefaultScope.overwrite_default_scope(scope):
        built = MODELS.build(settings)
    if weights is not None:
        loaded = load_checkpoint_file(local_file(weights), trust=trust)
        state = loaded.get('state_dict', loaded)
        missing, unexpected = built.load_state_dict(state, strict=False)
        print_log(
            f'{weights}: {len(missing)} keys missing, {len(unexpected)} '
            'unexpected.',
            logger='current',
        )
        if missing and len(missing) > 0.1 * len(built.state_dict()):
            raise ValueError(
                f'{weights} does not fit this model: {len(missing)} of '
                f'{len(built.state_dict())} keys are missing, for instance '
                f'{missing[:3]}; it holds {list(state)[:3]}.'
            )
    return built.to(device or 'cpu').eval()
