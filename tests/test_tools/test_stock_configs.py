# ruff: noqa: E501
"""Stock configs train on a CPU without any override for the stack.

Each config below inherits from a toolbox and makes things small; it changes
nothing that the stack makes necessary: AMP wrappers, SyncBN, NCCL, pinned
memory and inherited collate functions stay as upstream wrote them.
"""

import re

import pytest

from mmdense.registry import toolbox_installed
from mmdense.testing.launch import ROOT, run_tool

MOCO = """
_base_ = 'mmpretrain::mocov3/mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k.py'
arch = dict(embed_dims=48, num_layers=1, num_heads=3, feedforward_channels=48)
model = dict(
    backbone=dict(arch=dict(_delete_=True, **arch)),
    neck=dict(in_channels=48, hid_channels=32, out_channels=16),
    head=dict(predictor=dict(in_channels=16, hid_channels=32, out_channels=16)),
)
train_dataloader = dict(
    batch_size=2, num_workers=1,
    dataset=dict(
        _delete_=True, type='mmpretrain.CustomDataset', indices=8,
        data_root='{root}/photos', with_label=False,
        pipeline={{{{_base_.train_pipeline}}}},
    ),
)
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
"""

UPERNET = """
_base_ = 'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
norm = dict(type='SyncBN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(
        embed_dims=24, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8],
        init_cfg=None,
    ),
    decode_head=dict(in_channels=[24, 48, 96, 192], channels=16, num_classes=13),
    auxiliary_head=dict(in_channels=96, channels=16, num_classes=13),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomCrop', crop_size=(64, 64)),
    dict(type='PackSegInputs'),
]
data = dict(
    type='BaseSegDataset', data_root='{root}/rooms', indices=8,
    img_suffix='.jpg', seg_map_suffix='.png', reduce_zero_label=False,
    metainfo=dict(classes=[str(i) for i in range(13)]),
)
train_dataloader = dict(
    batch_size=2, num_workers=1,
    dataset=dict(
        _delete_=True, **data,
        data_prefix=dict(img_path='train', seg_map_path='semantic/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        _delete_=True, **{{**data, 'indices': 2}},
        data_prefix=dict(img_path='val', seg_map_path='semantic/val'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(64, 64)),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
train_cfg = dict(max_iters=4, val_interval=4)
default_hooks = dict(logger=dict(interval=1))
"""

MASK_RCNN = """
_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
model = dict(
    backbone=dict(
        embed_dims=24, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8],
        init_cfg=None,
    ),
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16, num_classes=10),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(
            in_channels=16, conv_out_channels=16, num_convs=1, num_classes=10
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=64, max_per_img=32),
        rcnn=dict(sampler=dict(num=16)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=32, max_per_img=16)),
)
names = ('picture', 'bed', 'chair', 'sofa', 'table', 'cabinet', 'shelf',
         'lamp', 'plant', 'other')
train_dataloader = dict(
    batch_size=2, num_workers=1,
    dataset=dict(
        data_root='{root}/rooms/', indices=8, metainfo=dict(classes=names),
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='{train}'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='Resize', scale=(128, 96), keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = None
val_evaluator = None
val_cfg = None
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
"""

CASES = {
    'mmpretrain': MOCO,
    'mmseg': UPERNET,
    'mmdet': MASK_RCNN,
}


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.parametrize('processes', [0, 2])
@pytest.mark.parametrize('toolbox', list(CASES))
def test_train__stock_config_on_cpu(toolbox, processes, tmp_path):
    if not toolbox_installed(toolbox):
        pytest.skip(f'{toolbox} is not installed')
    root = ROOT / 'demo' / 'data'
    train = 'train/'
    config = tmp_path / f'{toolbox}.py'
    config.write_text(CASES[toolbox].format(root=root, train=train))
    work_dir = tmp_path / 'work'
    done = run_tool(
        'train.py', config, '--work-dir', work_dir, processes=processes
    )
    losses = re.findall(r'  loss: ([\d.]+)', done.stdout)
    assert len(losses) >= 2, done.stdout[-3000:]
    assert list(work_dir.glob('*.pth'))
    if toolbox == 'mmseg':
        assert 'mIoU' in done.stdout
