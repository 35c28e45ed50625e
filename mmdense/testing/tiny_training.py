"""Whole training runs of a second or two, on the demo images."""

import uuid
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, List, Union

from mmengine.config import Config

from ..apis import running
from .launch import ROOT

WIDTH = 16
_HEAD = dict(
    type='mmdense.DINOHead',
    in_channels=WIDTH,
    out_channels=24,
    hid_channels=20,
    bottleneck_channels=12,
)
_NECK = dict(
    type='mmpretrain.NonLinearNeck',
    in_channels=WIDTH,
    hid_channels=20,
    out_channels=12,
    num_layers=2,
    with_avg_pool=False,
    with_last_bn=False,
    norm_cfg=dict(type='BN1d'),
)
_BACKBONE = dict(
    type='mmdense.VisionTransformer',
    arch=dict(
        embed_dims=WIDTH,
        num_layers=2,
        num_heads=2,
        feedforward_channels=32,
    ),
    img_size=32,
    patch_size=8,
    out_type='tokens',
    # draws from the generators that a resume has to restore
    drop_path_rate=0.3,
)
_RAW = dict(with_cls_token=False, final_norm=False)
_AGGREGATION = dict(
    type='mmdense.ClassAttentionPooling',
    embed_dims=WIDTH,
    num_heads=2,
    depth=1,
)
_MOBY_LOSS = dict(type='mmdense.MoBYLoss', channels=12, queue_size=16)


def _dino(**backbone: Any) -> Dict[str, Any]:
    return dict(
        type='mmdense.DINO',
        backbone=dict(_BACKBONE, **backbone),
        neck=_HEAD,
        loss=dict(
            type='mmdense.DINOLoss',
            out_channels=24,
            teacher_temp=0.07,
            warmup_teacher_temp_epochs=2,
        ),
    )


def _moby(**backbone: Any) -> Dict[str, Any]:
    return dict(
        type='mmdense.MoBY',
        backbone=dict(_BACKBONE, **backbone),
        neck=_NECK,
        predictor=dict(_NECK, in_channels=12),
        loss=_MOBY_LOSS,
    )


def tiny_model(method: str) -> Dict[str, Any]:
    """Config of a method on a tiny ViT.

    Args:
        method (str): ``'dino'``, ``'moby'``, ``'selfpatch-dino'`` or
            ``'selfpatch-moby'``.

    Returns:
        dict: For ``MODELS.build``.
    """
    if method == 'dino':
        model = _dino()
    elif method == 'moby':
        model = _moby()
    elif method == 'selfpatch-dino':
        model = dict(
            type='mmdense.SelfPatch',
            method=_dino(**_RAW),
            aggregation=_AGGREGATION,
            patch_head=_HEAD,
            patch_loss=dict(
                type='mmdense.PatchDistillationLoss',
                out_channels=24,
                chunk_size=40,
            ),
        )
    elif method == 'selfpatch-moby':
        model = dict(
            type='mmdense.SelfPatch',
            method=_moby(**_RAW),
            aggregation=_AGGREGATION,
            patch_head=_NECK,
            patch_predictor=dict(_NECK, in_channels=12),
            patch_loss=dict(
                type='mmdense.PatchContrastLoss',
                channels=12,
                queue_size=16,
            ),
        )
    else:
        raise ValueError(f'{method!r} is no tiny method.')
    model['data_preprocessor'] = dict(
        type='mmpretrain.SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=False,
    )
    return deepcopy(model)


def tiny_training(
    method: str,
    work_dir: Union[str, Path],
    batch_size: int = 4,
    epochs: int = 4,
    images: int = 12,
    accumulative_counts: int = 1,
    workers: int = 0,
) -> Config:
    """Config of a training run of a method on demo images.

    Args:
        method (str): As in :func:`tiny_model`.
        work_dir (str or Path): Logs, and a checkpoint of every epoch.
        batch_size (int): Images of a process. Defaults to 4.
        epochs (int): At least 2, the first one warms up. Defaults to 4.
        images (int): Images of an epoch, at most 40. Defaults to 12.
        accumulative_counts (int): Iterations of a step. Defaults to 1.
        workers (int): Of the loader. Defaults to 0.

    Returns:
        Config: For :func:`mmdense.apis.running.build_runner`.
    """
    recipe = (
        'moby_adamw_coslr-200e_256'
        if method.endswith('moby')
        else ('dino_adamw_coslr-200e_256')
    )
    folder = ROOT / 'configs/_base_'
    cfg = Config.fromfile(str(folder / 'default_runtime.py'))
    schedule = Config.fromfile(str(folder / f'schedules/{recipe}.py'))
    cfg.merge_from_dict(schedule.to_dict())
    cfg.model = tiny_model(method)
    views: List[Dict[str, Any]] = [
        dict(num=2, size=32, scale=(0.25, 1.0)),
        dict(num=2, size=16, scale=(0.05, 0.25)),
    ]
    cfg.train_dataloader = dict(
        batch_size=batch_size,
        num_workers=workers,
        drop_last=True,
        sampler=dict(type='mmdense.SeededSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='mmdense.UnlabeledImages',
            paths=str(ROOT / 'demo/data/rooms/val'),
            indices=images,
            pipeline=[
                dict(
                    type='mmdense.MultiViewCrops',
                    views=views[: 1 if method.endswith('moby') else 2],
                ),
                dict(type='mmpretrain.PackInputs'),
            ],
        ),
    )
    cfg.train_cfg.max_epochs = epochs
    warmup, cosine = cfg.param_scheduler[:2]
    warmup.end = cosine.begin = 1
    cfg.optim_wrapper.accumulative_counts = accumulative_counts
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir = str(work_dir)
    # runs of the same second would share mmengine's log of scalars
    cfg.experiment_name = uuid.uuid4().hex
    running.set_loader_defaults(cfg)
    return cfg
