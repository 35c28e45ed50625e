"""Stock detectors of mmdet train and predict on the stand-in."""

import importlib
import types

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from mmdense.utils.mmcv_ext import extension, install

COMPILED = not install()
CHANNELS = 32


def assigner(pos, neg):
    return {
        'type': 'MaxIoUAssigner',
        'pos_iou_thr': pos,
        'neg_iou_thr': neg,
        'min_pos_iou': neg,
        'ignore_iof_thr': -1,
    }


def sampler(number, add_gt):
    return {
        'type': 'RandomSampler',
        'num': number,
        'pos_fraction': 0.5,
        'neg_pos_ub': -1,
        'add_gt_as_proposals': add_gt,
    }


def box_coder(scale):
    return {
        'type': 'DeltaXYWHBBoxCoder',
        'target_means': [0.0] * 4,
        'target_stds': [scale, scale, 2 * scale, 2 * scale],
    }


def extractor(size):
    return {
        'type': 'SingleRoIExtractor',
        'roi_layer': {
            'type': 'RoIAlign',
            'output_size': size,
            'sampling_ratio': 0,
        },
        'out_channels': CHANNELS,
        'featmap_strides': [4, 8, 16, 32],
    }


def detector(dcn):
    """Mask R-CNN with ResNet-18, 32 channels and 32 regions."""
    proposals = {
        'nms_pre': 100,
        'max_per_img': 32,
        'nms': {'type': 'nms', 'iou_threshold': 0.7},
        'min_bbox_size': 0,
    }
    backbone = {
        'type': 'ResNet',
        'depth': 18,
        'base_channels': 8,
        'stem_channels': 8,
    }
    if dcn:
        # Only bottlenecks take deformable convolutions.
        backbone.update(
            depth=50,
            dcn={'type': dcn, 'deform_groups': 1, 'fallback_on_stride': False},
            stage_with_dcn=(False, True, True, True),
        )
    widths = [8 * 2**i * (4 if dcn else 1) for i in range(4)]
    return {
        'type': 'MaskRCNN',
        'data_preprocessor': {
            'type': 'DetDataPreprocessor',
            'pad_mask': True,
            'pad_size_divisor': 32,
        },
        'backbone': backbone,
        'neck': {
            'type': 'FPN',
            'in_channels': widths,
            'out_channels': CHANNELS,
            'num_outs': 5,
        },
        'rpn_head': {
            'type': 'RPNHead',
            'in_channels': CHANNELS,
            'feat_channels': CHANNELS,
            'anchor_generator': {
                'type': 'AnchorGenerator',
                'scales': [4],
                'ratios': [0.5, 1.0, 2.0],
                'strides': [4, 8, 16, 32, 64],
            },
            'bbox_coder': box_coder(1.0),
        },
        'roi_head': {
            'type': 'StandardRoIHead',
            'bbox_roi_extractor': extractor(7),
            'bbox_head': {
                'type': 'Shared2FCBBoxHead',
                'in_channels': CHANNELS,
                'fc_out_channels': CHANNELS,
                'roi_feat_size': 7,
                'num_classes': 3,
                'bbox_coder': box_coder(0.1),
            },
            'mask_roi_extractor': extractor(14),
            'mask_head': {
                'type': 'FCNMaskHead',
                'num_convs': 1,
                'in_channels': CHANNELS,
                'conv_out_channels': CHANNELS,
                'num_classes': 3,
            },
        },
        'train_cfg': {
            'rpn': {
                'assigner': assigner(0.7, 0.3),
                'sampler': sampler(64, add_gt=False),
                'allowed_border': -1,
                'pos_weight': -1,
            },
            'rpn_proposal': proposals,
            'rcnn': {
                'assigner': assigner(0.5, 0.5),
                'sampler': sampler(32, add_gt=True),
                'mask_size': 28,
                'pos_weight': -1,
            },
        },
        'test_cfg': {
            'rpn': proposals,
            'rcnn': {
                'score_thr': 0.0,
                'nms': {'type': 'nms', 'iou_threshold': 0.5},
                'max_per_img': 10,
                'mask_thr_binary': 0.5,
            },
        },
    }


def build(config):
    """The model and a batch of random images, boxes and masks."""
    pytest.importorskip('mmdet')
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    torch.manual_seed(0)
    # A scope set by another test must neither be used nor replaced.
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(ConfigDict(config))
    batch = demo_mm_inputs(
        2,
        [[3, 64, 96], [3, 80, 64]],
        num_items=[2, 3],
        num_classes=3,
        with_mask=True,
    )
    return model, model.data_preprocessor(batch, True)


def gradients(config):
    """Loss of the first step and the gradient of each parameter."""
    model, data = build(config)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    named = model.named_parameters()
    return loss.item(), {n: p.grad for n, p in named if p.grad is not None}


@pytest.mark.parametrize('amp', [False, True])
@pytest.mark.parametrize('dcn', [None, 'DCN', 'DCNv2'])
def test_mask_rcnn__trains_and_predicts(dcn, amp):
    if amp and COMPILED:
        pytest.skip('compiled mmcv has no bfloat16 on the CPU')
    model, data = build(detector(dcn))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        with torch.autocast('cpu', torch.bfloat16, enabled=amp):
            loss, parts = model.parse_losses(model(**data, mode='loss'))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert 'loss_mask' in parts
    assert all(0 < loss < 100 for loss in losses)
    assert losses[0] != losses[1]
    model.eval()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=amp):
        results = model(**data, mode='predict')
    boxes = torch.cat([r.pred_instances.bboxes for r in results])
    assert 0 < len(boxes) <= 20
    assert boxes.isfinite().all()


@pytest.mark.skipif(not COMPILED, reason='needs the compiled mmcv')
@pytest.mark.parametrize('dcn', [None, 'DCN', 'DCNv2'])
def test_mask_rcnn__gradients_of_the_compiled_operators(dcn, monkeypatch):
    # One step only: after it, a last digit can change which proposals nms
    # keeps and so which regions are sampled.
    loss, expected = gradients(detector(dcn))
    stand_in = types.SimpleNamespace(**extension.OPERATORS)
    for name in ('nms', 'roi_align', 'deform_conv', 'modulated_deform_conv'):
        module = importlib.import_module(f'mmcv.ops.{name}')
        monkeypatch.setattr(module, 'ext_module', stand_in)
    stand_in_loss, got = gradients(detector(dcn))
    assert stand_in_loss == pytest.approx(loss, rel=1e-5)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        error = (got[name] - gradient).norm()
        assert error <= 1e-3 * gradient.norm() + 1e-9, name
