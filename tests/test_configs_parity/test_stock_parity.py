"""Recipes that equal a stock config of mmseg or mmdet, field by field.

A recipe that claims to be the one of a toolbox may drift from it without a
test failing anywhere. Here both configs are flattened to ``{path: value}``,
and what differs must be exactly what is written down: nothing more, and
nothing that has meanwhile become equal.
"""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

import mmdense  # noqa: F401
from mmdense.registry import toolbox_installed
from mmdense.testing.launch import ROOT

# path -> why it is not compared
IGNORED = {
    'default_scope': 'foreign types carry their prefix instead',
    'default_hooks': 'when to log, save and draw; nothing that is learnt',
    'visualizer': 'drawing',
    'log_processor': 'logging',
    'log_level': 'logging',
    'env_cfg': 'cudnn, OpenCV and process start: speed',
    'randomness': 'mmdense has a fixed seed, the toolboxes draw one',
    'resume': 'of a run, not of a recipe',
    'data_preprocessor': 'the model has its own, which is the one used',
    'auto_scale_lr.enable': 'off unless asked for on the command line',
    'model.backbone.init_cfg.checkpoint': 'what the configs of a recipe vary',
}
# last key of a path -> why it is not compared
IGNORED_ANYWHERE = {
    'num_workers': 'speed',
    'backend_args': 'how files are read; None is the default',
    'val_interval': 'when to look, not what is learnt',
}
NONE = '(absent)'
Differences = Dict[str, Tuple[Any, Any]]


def _ignored(path: str) -> bool:
    return path in IGNORED or path.rsplit('.', 1)[-1] in IGNORED_ANYWHERE


def _leaves(node: Any, path: str, toolbox: str) -> Iterator[Tuple[str, Any]]:
    """Paths and values below a node, spelled alike for both configs."""
    if _ignored(path):
        return
    if isinstance(node, dict):
        if not node:
            yield path, {}
        for key, value in node.items():
            if key != '_scope_':
                yield from _leaves(value, f'{path}.{key}', toolbox)
    elif isinstance(node, (list, tuple)):
        if any(isinstance(value, (dict, list, tuple)) for value in node):
            for index, value in enumerate(node):
                yield from _leaves(value, f'{path}.{index}', toolbox)
        else:
            yield path, list(node)
    elif isinstance(node, str) and node.startswith(f'{toolbox}.'):
        yield path, node[len(toolbox) + 1 :]
    else:
        yield path, node


def _with_defaults(cfg: Config) -> Config:
    """What a config may leave to the defaults of the runner and of mmcv."""
    loop = cfg.get('train_cfg') or {}
    for scheduler in cfg.get('param_scheduler') or []:
        by_epoch = scheduler.get('by_epoch', True)
        total = loop.get('max_epochs' if by_epoch else 'max_iters')
        scheduler.setdefault('end', total)

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            if str(node.get('type')).endswith('RandomChoiceResize'):
                node.setdefault('resize_type', 'Resize')
            node = list(node.values())
        if isinstance(node, (list, tuple)):
            for value in node:
                visit(value)

    visit(cfg._cfg_dict)
    return cfg


def flatten(cfg: Config, toolbox: str) -> Dict[str, Any]:
    """Fields of a config that the runner uses.

    Args:
        cfg (Config): The config; names of its own, such as
            ``train_pipeline``, are left out.
        toolbox (str): Prefix that is dropped from names of types.

    Returns:
        Dict[str, Any]: Values by path, such as
        ``'train_dataloader.dataset.pipeline.0.type'``.
    """
    known = set(inspect.signature(Runner.__init__).parameters)
    # read by the tools, not by the runner
    known.add('auto_scale_lr')
    cfg = _with_defaults(cfg)
    found: Dict[str, Any] = {}
    for key in cfg:
        if key in known:
            found.update(_leaves(cfg[key], key, toolbox))
    return found


def compare(
    ours: Dict[str, Any], stock: Dict[str, Any], fields: Tuple[str, ...] = ()
) -> Differences:
    """Fields that differ.

    Args:
        ours (Dict[str, Any]): Flattened config.
        stock (Dict[str, Any]): Flattened config of the toolbox.
        fields (Tuple[str, ...]): Compare only what is at or below these
            paths. Defaults to ``()``: everything.

    Returns:
        Differences: ``{path: (stock value, our value)}``, :data:`NONE`
        where one of the two lacks it.
    """

    def wanted(path: str) -> bool:
        below = [f'{path}.'.startswith(f'{field}.') for field in fields]
        return not fields or any(below)

    return {
        path: (stock.get(path, NONE), ours.get(path, NONE))
        for path in sorted({*ours, *stock})
        if wanted(path) and ours.get(path, NONE) != stock.get(path, NONE)
    }


def _stock_path(name: str) -> Path:
    toolbox, _, file = name.partition('::')
    package = importlib.import_module(toolbox)
    return Path(str(package.__file__)).parent / '.mim/configs' / file


def _total_batch(name: str) -> Optional[int]:
    found = re.search(r'_(\d+)xb(\d+)', name)
    return int(found[1]) * int(found[2]) if found else None


DATA = (
    *('train_dataloader', 'val_dataloader', 'test_dataloader'),
    *('val_evaluator', 'test_evaluator'),
)
SCHEDULE = (
    *('optim_wrapper', 'param_scheduler', 'auto_scale_lr'),
    *('train_cfg', 'val_cfg', 'test_cfg', 'load_from'),
)
INIT: Differences = {
    'model.backbone.init_cfg.type': ('Pretrained', 'mmdense.Pretrained'),
}
# mmseg names its GPUs, but does not scale learning rates by them
SCALED_FROM_16: Differences = {'auto_scale_lr.base_batch_size': (NONE, 16)}
EIGHT_OF_TWO: Differences = {'train_dataloader.batch_size': (4, 2)}
GROUPED: Differences = {
    # fewer groups of parameters, the same updates
    'optim_wrapper.constructor': (
        NONE,
        'mmdense.GroupedOptimWrapperConstructor',
    ),
}
SEG_RESNET50: Differences = {
    # weights of networks with a 7x7 stem
    'model.backbone.type': ('ResNetV1c', 'ResNet'),
    'model.pretrained': ('open-mmlab://resnet50_v1c', None),
    'model.backbone.init_cfg.type': (NONE, 'mmdense.Pretrained'),
    # what mmengine does without the key
    'optim_wrapper.clip_grad': (None, NONE),
}
DET_RESNET50: Differences = {
    **INIT,
    # nothing is frozen, the statistics of BatchNorm adapt
    'model.backbone.frozen_stages': (1, -1),
    'model.backbone.norm_eval': (True, False),
}
SYNC_BN: Differences = {'model.backbone.norm_cfg.type': ('BN', 'SyncBN')}


def _swin(stock: Dict[str, Any], ours: Dict[str, Any]) -> Differences:
    """Arguments of the two classes; what they build is compared below."""
    return {
        'model.backbone.type': ('SwinTransformer', 'mmdense.SwinTransformer'),
        **{f'model.backbone.{k}': (v, NONE) for k, v in stock.items()},
        **{f'model.backbone.{k}': (NONE, v) for k, v in ours.items()},
    }


def _seg_swin(arch: str, width: int, blocks: int, heads: int) -> Differences:
    stock = {
        'embed_dims': width,
        'depths': [2, 2, blocks, 2],
        'num_heads': [heads * 2**i for i in range(4)],
        'pretrain_img_size': 224,
        'patch_size': 4,
        'strides': [4, 2, 2, 2],
        'mlp_ratio': 4,
        'patch_norm': True,
        'qkv_bias': True,
        'qk_scale': None,
        'drop_rate': 0.0,
        'attn_drop_rate': 0.0,
        'use_abs_pos_embed': False,
        'act_cfg.type': 'GELU',
        'norm_cfg.type': 'LN',
        'norm_cfg.requires_grad': True,
    }
    return {**INIT, **_swin(stock, {'arch': arch, 'img_size': 224})}


DET_SWIN_TINY: Differences = {
    **INIT,
    **_swin(
        {
            'embed_dims': 96,
            'depths': [2, 2, 6, 2],
            'num_heads': [3, 6, 12, 24],
            'mlp_ratio': 4,
            'patch_norm': True,
            'qkv_bias': True,
            'qk_scale': None,
            'drop_rate': 0.0,
            'attn_drop_rate': 0.0,
            'with_cp': False,
            'convert_weights': True,
        },
        {'arch': 'tiny', 'img_size': 224},
    ),
}


def _classes(count: int, masks: bool) -> Differences:
    heads = [f'bbox_head.{stage}' for stage in range(3)]
    return {
        f'model.roi_head.{head}.num_classes': (80, count)
        for head in heads + ['mask_head'] * masks
    }


CITYSCAPES: Differences = {
    # the second metric, which needs the package cityscapesscripts
    **{
        f'{name}.1.{key}': (value, NONE)
        for name in ('val_evaluator', 'test_evaluator')
        for key, value in {
            'type': 'CityScapesMetric',
            'seg_prefix': 'data/cityscapes/gtFine/val',
            'outfile_prefix': './work_dirs/cityscapes_metric/instance',
        }.items()
    },
    # 8 images for each update in both: mmdet's 8 GPUs of one image inherit
    # the 16 of its COCO schedule, ours accumulate two steps of 4
    'auto_scale_lr.base_batch_size': (16, 4),
    'optim_wrapper.accumulative_counts': (NONE, 2),
    # 500 updates
    'param_scheduler.0.end': (500, 1000),
    # mmdet starts from a detector trained on COCO
    'load_from': (
        'https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/'
        'mask_rcnn_r50_fpn_1x_coco/'
        'mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth',
        None,
    ),
}
SGD_TO_ADAMW: Differences = {
    **GROUPED,
    'optim_wrapper.optimizer.type': ('SGD', 'AdamW'),
    'optim_wrapper.optimizer.momentum': (0.9, NONE),
    'optim_wrapper.optimizer.betas': (NONE, [0.9, 0.999]),
}
# SelfPatch's optimiser in the place of mmseg's; mmcv 1's warm-up multiplies a
# polynomial that starts at 0
SEMANTIC_FPN_SCHEDULE: Differences = {
    **SGD_TO_ADAMW,
    'optim_wrapper.type': ('OptimWrapper', 'mmdense.OptimWrapper'),
    'optim_wrapper.clip_grad': (None, NONE),
    'optim_wrapper.optimizer.lr': (0.01, 6e-5),
    'optim_wrapper.optimizer.weight_decay': (0.0005, 0.01),
    'optim_wrapper.paramwise_cfg.norm_decay_mult': (NONE, 0.0),
    'optim_wrapper.paramwise_cfg.custom_keys.pos_embed.decay_mult': (
        *(NONE, 0.0),
    ),
    'optim_wrapper.paramwise_cfg.custom_keys.cls_token.decay_mult': (
        *(NONE, 0.0),
    ),
    'param_scheduler.0.type': ('PolyLR', 'LinearLR'),
    'param_scheduler.0.end': (160000, 1500),
    'param_scheduler.0.start_factor': (NONE, 1e-6),
    'param_scheduler.0.eta_min': (1e-4, NONE),
    'param_scheduler.0.power': (0.9, NONE),
    'param_scheduler.1.type': (NONE, 'PolyLR'),
    'param_scheduler.1.by_epoch': (NONE, False),
    'param_scheduler.1.begin': (NONE, 0),
    'param_scheduler.1.end': (NONE, 40000),
    'param_scheduler.1.eta_min': (NONE, 0.0),
    'param_scheduler.1.power': (NONE, 1.0),
    'train_cfg.max_iters': (160000, 40000),
    'auto_scale_lr.base_batch_size': (NONE, 32),
    'total batch': (16, 32),
}
# SelfPatch's 12 epochs at batch 8 in the place of Swin's 36 at 16
MASK_RCNN_12E: Differences = {
    **GROUPED,
    'optim_wrapper.type': ('OptimWrapper', 'mmdense.AmpOptimWrapper'),
    'optim_wrapper.dtype': (NONE, 'float16'),
    'optim_wrapper.loss_scale': (NONE, 'dynamic'),
    'optim_wrapper.optimizer.lr': (1e-4, 5e-5),
    # by kind of layer: norms of ViT are called ln1 and ln2
    'optim_wrapper.paramwise_cfg.norm_decay_mult': (NONE, 0.0),
    **{
        f'optim_wrapper.paramwise_cfg.custom_keys.{key}.decay_mult': pair
        for key, pair in {
            'norm': (0.0, NONE),
            'absolute_pos_embed': (0.0, NONE),
            'pos_embed': (NONE, 0.0),
            'cls_token': (NONE, 0.0),
        }.items()
    },
    'param_scheduler.1.milestones': ([27, 33], [8, 11]),
    'param_scheduler.1.end': (36, 12),
    'train_cfg.max_epochs': (36, 12),
    'auto_scale_lr.base_batch_size': (16, 8),
    'train_dataloader.batch_size': (2, 1),
}


class Case(NamedTuple):
    """A recipe of this repository and the stock config that it follows.

    Attributes:
        ours (str): Stem of a fine-tuning config.
        stock (str): ``'{toolbox}::{config}'``.
        fields (Tuple[str, ...]): What of it is compared, () for everything.
        table (Differences): All that may differ.
    """

    ours: str
    stock: str
    fields: Tuple[str, ...]
    table: Differences


UPERNET_R50 = 'mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512.py'
SWIN_MS_CROP = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py'
CASCADE_R50 = 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_20e_coco.py'
CITYSCAPES_R50 = 'mmdet::cityscapes/mask-rcnn_r50_fpn_1x_cityscapes.py'
CASES: List[Case] = [
    # UPerNet of SemCL
    Case(
        'upernet_resnet50_semcl-ade-30k-pre_8xb2-160k_ade20k-512x512',
        UPERNET_R50,
        (),
        {**SEG_RESNET50, **SCALED_FROM_16, **EIGHT_OF_TWO},
    ),
    Case(
        'upernet_resnet101_semcl-ade-30k-pre_8xb2-160k_ade20k-512x512',
        'mmseg::upernet/upernet_r101_4xb4-160k_ade20k-512x512.py',
        (),
        {
            **SEG_RESNET50,
            'model.pretrained': ('open-mmlab://resnet101_v1c', None),
            **SCALED_FROM_16,
            **EIGHT_OF_TWO,
        },
    ),
    Case(
        'upernet_resnet50_semcl-city-30k-pre_8xb1-80k_cityscapes-512x1024',
        'mmseg::upernet/upernet_r50_4xb2-80k_cityscapes-512x1024.py',
        (),
        {
            **SEG_RESNET50,
            'auto_scale_lr.base_batch_size': (NONE, 8),
            'train_dataloader.batch_size': (2, 1),
        },
    ),
    Case(
        'upernet_resnet50_semcl-voc-30k-pre_8xb2-40k_voc12aug-512x512',
        'mmseg::upernet/upernet_r50_4xb4-40k_voc12aug-512x512.py',
        (),
        {**SEG_RESNET50, **SCALED_FROM_16, **EIGHT_OF_TWO},
    ),
    # mmseg has no UPerNet for COCO-Stuff: data and schedule of another head
    Case(
        'upernet_resnet50_semcl-coco-30k-pre_8xb2-160k_coco-stuff164k-512x512',
        'mmseg::deeplabv3/deeplabv3_r50-d8_4xb4-160k_'
        'coco-stuff164k-512x512.py',
        (*DATA, *SCHEDULE),
        {
            'optim_wrapper.clip_grad': (None, NONE),
            **SCALED_FROM_16,
            **EIGHT_OF_TWO,
        },
    ),
    Case(
        'upernet_swin-tiny-w7_semcl-ade-30k-pre_8xb2-160k_ade20k-512x512',
        'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_'
        'ade20k-512x512.py',
        (),
        {
            **_seg_swin('tiny', 96, 6, 3),
            'model.backbone.drop_path_rate': (0.3, 0.2),
            **GROUPED,
            **SCALED_FROM_16,
        },
    ),
    Case(
        'upernet_swin-small-w7_semcl-ade-30k-pre_8xb2-160k_ade20k-512x512',
        'mmseg::swin/swin-small-patch4-window7-in1k-pre_upernet_8xb2-160k_'
        'ade20k-512x512.py',
        (),
        {**_seg_swin('small', 96, 18, 3), **GROUPED, **SCALED_FROM_16},
    ),
    Case(
        'upernet_swin-base-w7_semcl-ade-30k-pre_8xb2-160k_ade20k-512x512',
        'mmseg::swin/swin-base-patch4-window7-in22k-pre_upernet_8xb2-160k_'
        'ade20k-512x512.py',
        (),
        {**_seg_swin('base', 128, 18, 4), **GROUPED, **SCALED_FROM_16},
    ),
    # Cascade (Mask) R-CNN of SemCL
    Case(
        'cascade-mask-rcnn_resnet50_semcl-coco-30k-pre_8xb2-20e_coco',
        CASCADE_R50,
        (),
        {**DET_RESNET50, **SYNC_BN},
    ),
    # Swin has Mask R-CNN in mmdet: its backbone, data and schedule from
    # there, the heads from the cascade
    Case(
        'cascade-mask-rcnn_swin-tiny-w7_semcl-coco-30k-pre_8xb2-36e_coco',
        SWIN_MS_CROP,
        (
            *('model.backbone', 'model.neck', 'model.data_preprocessor'),
            *(*DATA, *SCHEDULE),
        ),
        {**DET_SWIN_TINY, **GROUPED},
    ),
    Case(
        'cascade-mask-rcnn_swin-tiny-w7_semcl-coco-30k-pre_8xb2-36e_coco',
        CASCADE_R50,
        (
            *('model.type', 'model.rpn_head', 'model.roi_head'),
            *('model.train_cfg', 'model.test_cfg'),
        ),
        {},
    ),
    Case(
        'cascade-mask-rcnn_resnet50_semcl-city-30k-pre_4xb1-64e_cityscapes',
        CITYSCAPES_R50,
        (*DATA, *SCHEDULE),
        CITYSCAPES,
    ),
    Case(
        'cascade-mask-rcnn_resnet50_semcl-city-30k-pre_4xb1-64e_cityscapes',
        CASCADE_R50,
        ('model',),
        {**DET_RESNET50, **_classes(8, masks=True)},
    ),
    Case(
        'cascade-mask-rcnn_swin-tiny-w7_semcl-city-30k-pre_4xb1-64e_'
        'cityscapes',
        CITYSCAPES_R50,
        (*DATA, *SCHEDULE),
        {
            **CITYSCAPES,
            **SGD_TO_ADAMW,
            # half of Swin's 1e-4 on COCO, for half the batch
            'optim_wrapper.optimizer.lr': (0.01, 5e-5),
            'optim_wrapper.optimizer.weight_decay': (0.0001, 0.05),
            **{
                f'optim_wrapper.paramwise_cfg.custom_keys.{key}.decay_mult': (
                    NONE,
                    0.0,
                )
                for key in (
                    *('absolute_pos_embed', 'norm'),
                    'relative_position_bias_table',
                )
            },
        },
    ),
    Case(
        'cascade-rcnn_resnet50_semcl-voc-30k-pre_8xb2-12e_voc0712',
        'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py',
        (*DATA, *SCHEDULE),
        {
            # a warm-up before the steps
            'param_scheduler.0.type': ('MultiStepLR', 'LinearLR'),
            'param_scheduler.0.by_epoch': (True, False),
            'param_scheduler.0.end': (4, 500),
            'param_scheduler.0.start_factor': (NONE, 0.001),
            'param_scheduler.0.milestones': ([3], NONE),
            'param_scheduler.0.gamma': (0.1, NONE),
            'param_scheduler.1.type': (NONE, 'MultiStepLR'),
            'param_scheduler.1.by_epoch': (NONE, True),
            'param_scheduler.1.begin': (NONE, 0),
            'param_scheduler.1.end': (NONE, 4),
            'param_scheduler.1.milestones': (NONE, [3]),
            'param_scheduler.1.gamma': (NONE, 0.1),
        },
    ),
    Case(
        'cascade-rcnn_resnet50_semcl-voc-30k-pre_8xb2-12e_voc0712',
        'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
        ('model',),
        {**DET_RESNET50, **SYNC_BN, **_classes(20, masks=False)},
    ),
    # ADE20K as mmseg reads it
    *(
        Case(ours, UPERNET_R50, DATA, EIGHT_OF_TWO)
        for ours in (
            'linear_vit-small-p16_local-global-300e-pre_8xb2-64e_'
            'ade20k-512x512',
            'upernet_vit-small-p16_local-global-300e-pre_8xb2-64e_'
            'ade20k-512x512',
            'upernet_vit-small-p16_selfpatch-dino-200e-pre_8xb2-160k_'
            'ade20k-512x512',
        )
    ),
    # Semantic FPN of SelfPatch
    Case(
        'semantic-fpn_resnet50_mocov2-200e-pre_8xb4-40k_ade20k-512x512',
        'mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py',
        (),
        {**SEG_RESNET50, **SEMANTIC_FPN_SCHEDULE},
    ),
    Case(
        'semantic-fpn_vit-small-p16_selfpatch-dino-200e-pre_8xb4-40k_'
        'ade20k-512x512',
        'mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py',
        (
            *('model.type', 'model.data_preprocessor', 'model.neck'),
            *('model.decode_head', 'model.train_cfg', 'model.test_cfg'),
            *(*DATA, *SCHEDULE),
        ),
        {
            **SEMANTIC_FPN_SCHEDULE,
            'model.neck.in_channels': ([256, 512, 1024, 2048], [384] * 4),
            # whole patches
            'model.data_preprocessor.test_cfg.size_divisor': (NONE, 16),
        },
    ),
    # Mask R-CNN of SelfPatch
    Case(
        'mask-rcnn_resnet50_mocov2-200e-pre_8xb2-12e_coco',
        'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
        (),
        {
            **DET_RESNET50,
            **SYNC_BN,
            'model.neck.norm_cfg.type': (NONE, 'SyncBN'),
            'model.neck.norm_cfg.requires_grad': (NONE, True),
            # short side 640 to 800
            'train_dataloader.dataset.pipeline.2.type': (
                'Resize',
                'RandomChoiceResize',
            ),
            'train_dataloader.dataset.pipeline.2.resize_type': (
                NONE,
                'Resize',
            ),
            'train_dataloader.dataset.pipeline.2.scale': ([1333, 800], NONE),
            **{
                f'train_dataloader.dataset.pipeline.2.scales.{i}': (
                    NONE,
                    [640 + 32 * i, 1333],
                )
                for i in range(6)
            },
        },
    ),
    Case(
        'mask-rcnn_swin-tiny-w7_selfpatch-moby-200e-pre_8xb1-amp-12e_coco',
        SWIN_MS_CROP,
        (),
        {**DET_SWIN_TINY, **MASK_RCNN_12E},
    ),
    # everything but the backbone and its neck
    Case(
        'mask-rcnn_vit-small-p16_selfpatch-dino-200e-pre_8xb1-amp-12e_coco',
        SWIN_MS_CROP,
        (
            *('model.type', 'model.data_preprocessor', 'model.rpn_head'),
            *('model.roi_head', 'model.train_cfg', 'model.test_cfg'),
            *(*DATA, *SCHEDULE),
        ),
        MASK_RCNN_12E,
    ),
]


def _report(differences: Differences) -> str:
    width = max([len(path) for path in differences], default=0)
    lines = [
        f'{path:<{width}}  {stock!r} -> {ours!r}'
        for path, (stock, ours) in differences.items()
    ]
    return '\n'.join(lines) or 'no difference'


def _read(ours: str) -> Config:
    (path,) = ROOT.glob(f'configs/*/benchmarks/{ours}.py')
    return Config.fromfile(str(path))


@pytest.mark.parametrize(
    'case', CASES, ids=[f'{c.ours}-{c.stock.rsplit("/")[-1]}' for c in CASES]
)
def test_recipe__differs_from_the_stock_one_as_written(case):
    toolbox = case.stock.partition('::')[0]
    if not toolbox_installed(toolbox):
        pytest.skip(f'{toolbox} is not installed')
    stock = flatten(Config.fromfile(str(_stock_path(case.stock))), toolbox)
    found = compare(flatten(_read(case.ours), toolbox), stock, case.fields)
    batches = _total_batch(case.stock), _total_batch(case.ours)
    whole = not case.fields or 'auto_scale_lr' in case.fields
    if whole and batches[0] and batches[0] != batches[1]:
        found['total batch'] = batches
    print(f'\n{case.stock} -> {case.ours}\n{_report(found)}')
    undeclared = {k: v for k, v in found.items() if case.table.get(k) != v}
    assert not undeclared, f'not in the table:\n{_report(undeclared)}'
    gone = {k: v for k, v in case.table.items() if k not in found}
    assert not gone, f'in the table, but equal:\n{_report(gone)}'


def test_compare__sees_values_types_and_missing_fields():
    stock = Config(
        dict(
            model=dict(type='Net', norm_cfg=dict(type='BN')),
            param_scheduler=[dict(type='PolyLR', by_epoch=False, end=9)],
            train_cfg=dict(max_iters=9),
            train_pipeline=['a variable of the file'],
            data_preprocessor=dict(size=16),
        )
    )
    ours = Config(
        dict(
            model=dict(
                type='mmseg.Net',
                norm_cfg=dict(type='LN'),
                depth=50,
                data_preprocessor=dict(size=32, num_workers=4),
            ),
            param_scheduler=[dict(type='PolyLR', by_epoch=False)],
            train_cfg=dict(max_iters=9),
            default_scope='mmdense',
        )
    )
    flat = flatten(ours, 'mmseg'), flatten(stock, 'mmseg')
    assert compare(*flat) == {
        'model.data_preprocessor.size': (NONE, 32),
        'model.depth': (NONE, 50),
        'model.norm_cfg.type': ('BN', 'LN'),
    }
    assert compare(*flat, fields=('model.norm', 'train_cfg')) == {}
    # another toolbox's prefix is a difference
    other = compare(flatten(ours, 'mmdet'), flat[1], ('model.type',))
    assert other == {'model.type': ('Net', 'mmseg.Net')}


@pytest.mark.parametrize(
    'arch,toolbox,stock',
    [
        (
            'tiny',
            'mmseg',
            'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_'
            'ade20k-512x512.py',
        ),
        ('tiny', 'mmdet', SWIN_MS_CROP.partition('::')[2]),
        (
            'base',
            'mmseg',
            'swin/swin-base-patch4-window7-in22k-pre_upernet_8xb2-160k_'
            'ade20k-512x512.py',
        ),
    ],
)
def test_swin__arch_builds_what_the_stock_arguments_build(
    arch, toolbox, stock
):
    """The arguments differ, the networks do not."""
    if not toolbox_installed(toolbox):
        pytest.skip(f'{toolbox} is not installed')
    from mmdense.registry import MODELS

    cfg = Config.fromfile(str(_stock_path(f'{toolbox}::{stock}')))
    backbone = cfg.model.backbone
    backbone.update(type=f'{toolbox}.SwinTransformer', init_cfg=None)
    theirs = MODELS.build(backbone)
    ours = MODELS.build(
        dict(
            type='mmdense.SwinTransformer',
            arch=arch,
            img_size=224,
            window_size=7,
            out_indices=(0, 1, 2, 3),
            drop_path_rate=backbone.drop_path_rate,
        )
    )

    def facts(model):
        shapes = {k: tuple(v.shape) for k, v in model.named_parameters()}
        rates = [
            (type(module).__name__, module.drop_prob)
            for module in model.modules()
            if hasattr(module, 'drop_prob')
        ]
        return shapes, rates

    assert facts(ours) == facts(theirs)
