"""nms, soft-nms and nms_match against plain Python, through mmcv.ops."""

import importlib
import math

import numpy as np
import pytest
import torch

from mmdense.utils.mmcv_ext import install
from mmdense.utils.mmcv_ext import nms as stand_in

COMPILED = not install()
ops = importlib.import_module('mmcv.ops')


def iou(a, b, offset):
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area_a = (a[2] - a[0] + offset) * (a[3] - a[1] + offset)
    area_b = (b[2] - b[0] + offset) * (b[3] - b[1] + offset)
    union = area_a + area_b - w * h
    return w * h / union if union else 0.0


def greedy(boxes, scores, threshold, offset=0):
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    kept = []
    for i in order:
        if all(iou(boxes[i], boxes[k], offset) <= threshold for k in kept):
            kept.append(i)
    return kept


def soft(boxes, scores, threshold, sigma, min_score, method, offset):
    left, rows = dict(enumerate(scores)), []
    while left:
        best = max(left, key=lambda i: left[i])
        rows.append((best, left.pop(best)))
        for i in list(left):
            overlap = iou(boxes[best], boxes[i], offset)
            if method == 'gaussian':
                left[i] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                left[i] *= 1 - overlap if method == 'linear' else 0
            if left[i] < min_score:
                del left[i]
    return rows


def random_boxes(n, seed, size=20.0):
    g = torch.Generator().manual_seed(seed)
    top_left = torch.rand(n, 2, generator=g) * size
    boxes = torch.cat(
        (top_left, top_left + 1 + torch.rand(n, 2, generator=g) * size), 1
    )
    # Distinct scores: the order of ties is nobody's promise.
    scores = (torch.randperm(n, generator=g) + 1) / (n + 1)
    return boxes, scores


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.0, 0.2, 0.4, 0.6])
@pytest.mark.parametrize('seed', [0, 1])
def test_nms__equals_greedy_loop(threshold, offset, seed):
    boxes, scores = random_boxes(60, seed)
    dets, keep = ops.nms(boxes, scores, threshold, offset=offset)
    expected = greedy(boxes.tolist(), scores.tolist(), threshold, offset)
    assert keep.tolist() == expected
    assert torch.equal(dets, torch.cat((boxes, scores[:, None]), 1)[keep])
    assert 0 < len(expected) < 60


def test_nms__offset_decides_between_touching_pixels():
    # 2x2 pixels against 2x1 of them: IoU 1/2 as pixels, 0 as intervals.
    boxes = torch.tensor([[0.0, 0, 1, 1], [0.0, 0, 1, 0]])
    scores = torch.tensor([0.9, 0.8])
    assert ops.nms(boxes, scores, 0.4, offset=0)[1].tolist() == [0, 1]
    assert ops.nms(boxes, scores, 0.4, offset=1)[1].tolist() == [0]


def test_nms__score_threshold_and_max_num():
    boxes, scores = random_boxes(50, 3)
    keep = ops.nms(boxes, scores, 0.5, score_threshold=0.4, max_num=4)[1]
    everything = greedy(boxes.tolist(), scores.tolist(), 0.5)
    expected = [i for i in everything if scores[i] > 0.4][:4]
    assert keep.tolist() == expected
    assert len(expected) == 4


def test_nms__numpy_and_empty():
    boxes, scores = random_boxes(10, 4)
    dets, keep = ops.nms(boxes.numpy(), scores.numpy(), 0.5)
    assert isinstance(dets, np.ndarray)
    assert keep.tolist() == greedy(boxes.tolist(), scores.tolist(), 0.5)
    dets, keep = ops.nms(boxes[:0], scores[:0], 0.5)
    assert dets.shape == (0, 5)
    assert keep.dtype == torch.int64
    assert keep.shape == (0,)


def test_nms__degenerate_boxes_do_not_suppress():
    boxes = torch.tensor([[3.0, 3, 3, 3]] * 3)
    keep = ops.nms(boxes, torch.tensor([0.1, 0.3, 0.2]), 0.5)[1]
    assert keep.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    'dtype', [torch.float64, torch.float16, torch.bfloat16]
)
def test_stand_in_nms__other_types(dtype):
    boxes, scores = random_boxes(40, 5, size=200.0)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    keep = stand_in.nms(boxes, scores, 0.5, offset=1)
    expected = greedy(boxes.tolist(), scores.tolist(), 0.5, 1)
    assert keep.tolist() == expected


def test_stand_in_nms__bad_offset():
    boxes, scores = random_boxes(3, 0)
    with pytest.raises(ValueError, match='offset must be 0 or 1, got 2'):
        stand_in.nms(boxes, scores, 0.5, offset=2)


@pytest.mark.parametrize('class_agnostic', [False, True])
@pytest.mark.parametrize('split_thr', [10, 10000])
@pytest.mark.parametrize('max_num', [-1, 6])
def test_batched_nms__equals_loop_over_classes(
    class_agnostic, split_thr, max_num
):
    boxes, scores = random_boxes(40, 6)
    labels = torch.arange(40) % 3
    config = {
        'type': 'nms',
        'iou_threshold': 0.4,
        'split_thr': split_thr,
        'max_num': max_num,
        'class_agnostic': class_agnostic,
    }
    dets, keep = ops.batched_nms(boxes, scores, labels, config)
    # mmcv splits by class above split_thr, class-agnostic or not.
    by_class = not class_agnostic or split_thr < 40
    expected = []
    for label in range(3) if by_class else [None]:
        ids = [i for i in range(40) if label in (None, int(labels[i]))]
        kept = greedy(boxes[ids].tolist(), scores[ids].tolist(), 0.4)
        expected += [ids[k] for k in kept]
    expected.sort(key=lambda i: -scores[i])
    if max_num > 0:
        expected = expected[:max_num]
    assert keep.tolist() == expected
    assert torch.equal(dets[:, :4], boxes[expected])
    assert torch.equal(dets[:, 4], scores[expected])


def test_batched_nms__score_threshold():
    boxes, scores = random_boxes(30, 7)
    labels = torch.zeros(30, dtype=torch.long)
    config = {'type': 'nms', 'iou_threshold': 0.5, 'score_threshold': 0.5}
    keep = ops.batched_nms(boxes, scores, labels, config)[1]
    everything = greedy(boxes.tolist(), scores.tolist(), 0.5)
    assert keep.tolist() == [i for i in everything if scores[i] > 0.5]


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('min_score', [0.001, 0.3])
def test_soft_nms__equals_loop(method, offset, min_score):
    boxes, scores = random_boxes(30, 8)
    dets, keep = ops.soft_nms(
        boxes, scores, 0.3, 0.5, min_score, method, offset
    )
    expected = soft(
        boxes.tolist(), scores.tolist(), 0.3, 0.5, min_score, method, offset
    )
    assert keep.tolist() == [i for i, _ in expected]
    assert torch.equal(dets[:, :4], boxes[keep])
    torch.testing.assert_close(
        dets[:, 4], torch.tensor([s for _, s in expected])
    )


def test_soft_nms__empty():
    boxes, scores = random_boxes(0, 0)
    dets, keep = ops.soft_nms(boxes, scores)
    assert dets.shape == (0, 5)
    assert keep.shape == (0,)


def test_stand_in_softnms__bad_method():
    boxes, scores = random_boxes(3, 0)
    with pytest.raises(ValueError, match='method must be 0, 1 or 2, got 7'):
        stand_in.softnms(boxes, scores, torch.empty(3, 5), 0.3, 0.5, 0.1, 7, 0)


def test_nms_match__groups_every_box_once():
    boxes, scores = random_boxes(30, 9)
    groups = ops.nms_match(torch.cat((boxes, scores[:, None]), 1), 0.4)
    order = sorted(range(30), key=lambda i: -scores[i])
    expected = []
    while order:
        first, rest = order[0], order[1:]
        joins = [
            i
            for i in rest
            if iou(boxes[first].tolist(), boxes[i].tolist(), 0) >= 0.4
        ]
        expected.append([first, *joins])
        order = [i for i in rest if i not in joins]
    assert [g.tolist() for g in groups] == expected


@pytest.mark.skipif(not COMPILED, reason='needs the compiled mmcv')
@pytest.mark.parametrize('seed', range(5))
def test_stand_in__equals_compiled(seed):
    ext = importlib.import_module('mmcv._ext')
    boxes, scores = random_boxes(200, 10 + seed)
    for threshold in (0.2, 0.5, 0.7):
        for offset in (0, 1):
            kwargs = {'iou_threshold': threshold, 'offset': offset}
            assert torch.equal(
                stand_in.nms(boxes, scores, **kwargs),
                ext.nms(boxes, scores, **kwargs),
            )
    for method in (0, 1, 2):
        kwargs = {
            'iou_threshold': 0.3,
            'sigma': 0.5,
            'min_score': 0.05,
            'method': method,
            'offset': 0,
        }
        mine, theirs = torch.zeros(200, 5), torch.zeros(200, 5)
        keep = stand_in.softnms(boxes, scores, mine, **kwargs)
        assert torch.equal(keep, ext.softnms(boxes, scores, theirs, **kwargs))
        n = len(keep)
        torch.testing.assert_close(mine[:n], theirs[:n])
    dets = torch.cat((boxes, scores[:, None]), 1)
    assert stand_in.nms_match(dets, 0.5) == ext.nms_match(dets, 0.5)
