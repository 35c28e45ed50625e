"""Test-time augmentation of a config."""

from copy import deepcopy
from typing import Any

from .data_settings import inner_datasets

TTA_KEYS = ('tta_model', 'tta_pipeline')


def apply_tta(cfg: Any) -> None:
    """Put a config's ``tta_model`` and ``tta_pipeline`` in place.

    Args:
        cfg (Config): With both keys and a ``test_dataloader``; changed in
            place.
    """
    cfg.model = type(cfg.model)(**cfg.tta_model, module=cfg.model)
    for dataset in inner_datasets(cfg.test_dataloader.dataset):
        dataset['pipeline'] = deepcopy(cfg.tta_pipeline)
