import numpy as np
import pytest
import torch

from mmdense.utils.errors import UserValueError
from mmdense.visualization.depth_panel import depth_panel, error_text

SIZE = (60, 80)


@pytest.fixture
def scene():
    rng = np.random.RandomState(0)
    image = rng.randint(0, 256, (*SIZE, 3)).astype(np.uint8)
    gt = np.linspace(1, 5, SIZE[1], dtype=np.float32)[None].repeat(60, 0)
    gt = gt.copy()
    gt[:10, :10] = 0
    return image, gt


def test_error_text__equals_a_loop():
    rng = np.random.RandomState(0)
    gt = rng.rand(5, 6) + 1
    gt[0] = 0
    pred = gt * (1 + rng.uniform(-0.5, 0.5, gt.shape)) + (gt == 0)
    errors, close = [], []
    for p, t in zip(pred.ravel(), gt.ravel()):
        if t > 0:
            errors.append(abs(p - t) / t)
            close.append(max(p / t, t / p) < 1.25)
    assert error_text(pred.astype(np.float32), gt.astype(np.float32)) == (
        f'AbsRel {np.mean(errors):.3f}, δ1 {np.mean(close):.3f}'
    )
    assert error_text(pred, np.zeros_like(gt)) == 'no truth'


def _inside(panel, rgb, tolerance=0):
    """Whether a picture occurs somewhere in a panel, pixel by pixel."""
    height, width = rgb.shape[:2]
    views = np.lib.stride_tricks.sliding_window_view(
        panel[..., 0].astype(np.int16), (height, width)
    )
    for y, x in np.argwhere(views[..., 0, 0] == rgb[0, 0, 0]):
        found = panel[y : y + height, x : x + width].astype(int)
        if np.abs(found - rgb).max() <= tolerance:
            return True
    return False


def test_panel__holds_image_truth_prediction_and_error(scene):
    image, gt = scene
    from mmdense.visualization.depth import color_depth, depth_range, error_map

    pred = np.where(gt > 0, gt * 1.1, 3).astype(np.float32)
    panel = depth_panel(image, pred, gt, height=60)
    low, high = depth_range([gt])
    assert _inside(panel, image)
    assert _inside(panel, color_depth(gt, low, high))
    # in the colours of the truth
    assert _inside(panel, color_depth(pred, low, high))
    assert _inside(panel, error_map(pred, gt))
    assert not _inside(panel, color_depth(pred))


def test_panel__several_predictions_tensors_and_other_sizes(scene):
    image, gt = scene
    one = depth_panel(image, gt + 1, gt)
    preds = {
        'a': torch.rand(1, 30, 40) + 1,
        'b': torch.rand(1, *SIZE) + 1,
        'c': gt,
    }
    several = depth_panel(image[:30, :40], preds, torch.from_numpy(gt)[None])
    assert several.shape[0] > 3 * one.shape[0] > 0
    assert several.dtype == np.uint8
    assert (
        depth_panel(image, preds, gt, columns=8).shape[0]
        < 1.2 * (one.shape[0])
    )


def test_panel__relative_prediction_is_aligned(scene):
    image, gt = scene
    filled = np.where(gt > 0, gt, 3)
    aligned = depth_panel(image, 4 / filled - 7, gt, 'inverse', height=60)
    from mmdense.visualization.depth import error_map

    assert _inside(aligned, error_map(filled, gt), tolerance=4)
    assert depth_panel(image, 4 / filled - 7, None, 'inverse').size


def test_panel__ends_are_those_of_depth_not_of_inverse_depth(scene):
    from mmdense.visualization.depth import color_depth

    image, gt = scene
    inverse = 4 / np.where(gt > 0, gt, 3) - 7
    ends = dict(low=0.5, high=20.0, height=60)
    panel = depth_panel(image, inverse, gt, 'inverse', **ends)
    assert _inside(panel, color_depth(gt, 0.5, 20.0))
    assert _inside(panel, color_depth(inverse, values='inverse'))
    alone = depth_panel(image, inverse, None, 'inverse', **ends)
    plain = depth_panel(image, inverse, None, 'inverse', height=60)
    np.testing.assert_array_equal(alone, plain)


def test_panel__without_any_valid_pixel(scene):
    image, gt = scene
    assert depth_panel(image, gt * 0, gt * 0).shape[0] > 60
    assert depth_panel(image, gt * 0 - 1, gt * 0, 'inverse').shape[0] > 60


def test_panel__nothing_to_show(scene):
    with pytest.raises(UserValueError, match='give pred or gt'):
        depth_panel(scene[0])
    with pytest.raises(UserValueError, match=r"pred\['a'\] of shape"):
        depth_panel(scene[0], {'a': np.zeros((2, *SIZE))})


def test_panel__is_large_enough_to_read(scene):
    image, gt = scene
    panel = depth_panel(image, None, gt, caption='a/b.jpg')
    assert panel.shape[0] > 200
    assert depth_panel(image, None, gt).shape[0] < panel.shape[0]
