"""Sigmoid focal loss against plain Python, through mmcv.ops."""

import importlib
import math

import pytest
import torch

from mmdense.utils.mmcv_ext import focal_loss, install

install()
ops = importlib.import_module('mmcv.ops')


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    """mmcv's function on the stand-in: compiled mmcv has no CPU kernel."""
    module = importlib.import_module('mmcv.ops.focal_loss')
    monkeypatch.setattr(module, 'ext_module', focal_loss)


def reference(logits, labels, gamma, alpha, weight=None):
    """Loss of each element, in Python floats."""
    rows = []
    for row, label in zip(logits.tolist(), labels.tolist()):
        losses = []
        for c, z in enumerate(row):
            p = 1 / (1 + math.exp(-z))
            if c == label:
                loss = -alpha * (1 - p) ** gamma * math.log(p)
            else:
                loss = -(1 - alpha) * p**gamma * math.log(1 - p)
            if weight is not None and 0 <= label < len(row):
                loss *= weight[label]
            losses.append(loss)
        rows.append(losses)
    return torch.tensor(rows, dtype=torch.float64)


def inputs():
    g = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(6, 4, generator=g, dtype=torch.float64)
    return logits, torch.tensor([0, 3, 4, 1, 2, 4])  # 4 is background


@pytest.mark.parametrize('gamma', [0.0, 1.0, 2.0, 2.5])
@pytest.mark.parametrize('alpha', [0.25, 0.5])
@pytest.mark.parametrize('weighted', [False, True])
def test_sigmoid_focal_loss__value_and_gradient(gamma, alpha, weighted):
    logits, labels = inputs()
    weight = [0.5, 1.0, 2.0, 3.0] if weighted else None
    passed = torch.tensor(weight).double() if weighted else None
    loss = ops.sigmoid_focal_loss(logits, labels, gamma, alpha, passed, 'none')
    expected = reference(logits, labels, gamma, alpha, weight)
    torch.testing.assert_close(loss, expected)
    leaf = logits.clone().requires_grad_()
    ops.sigmoid_focal_loss(
        leaf, labels, gamma, alpha, passed, 'sum'
    ).backward()
    step = 1e-6
    upper = reference(logits + step, labels, gamma, alpha, weight)
    lower = reference(logits - step, labels, gamma, alpha, weight)
    torch.testing.assert_close(
        leaf.grad, (upper - lower) / (2 * step), rtol=1e-6, atol=1e-8
    )


def test_sigmoid_focal_loss__mean_over_rows():
    logits, labels = inputs()
    loss = ops.sigmoid_focal_loss(logits, labels, 2.0, 0.25, None, 'mean')
    expected = reference(logits, labels, 2.0, 0.25).sum() / 6
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float16, torch.bfloat16]
)
def test_stand_in__extreme_logits_stay_finite(dtype):
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0]], dtype=dtype)
    labels = torch.tensor([0, 0])
    loss, grad = torch.empty_like(logits), torch.empty_like(logits)
    empty = logits.new_empty(0)
    focal_loss.sigmoid_focal_loss_forward(
        logits, labels, empty, loss, 2.0, 0.25
    )
    focal_loss.sigmoid_focal_loss_backward(
        logits, labels, empty, grad, 2.0, 0.25
    )
    # Wrong by 200: the loss is the distance times the balance.
    assert loss.tolist() == [[50.0, 150.0], [0.0, 0.0]]
    assert grad.tolist() == [[-0.25, 0.75], [0.0, 0.0]]
