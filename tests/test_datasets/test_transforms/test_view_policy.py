import math
import random

import numpy as np
import pytest

from mmdense.datasets.transforms import photometric
from mmdense.datasets.transforms.crops import crop_resize
from mmdense.datasets.transforms.view_policy import ViewPolicy


def draws_of(n=4000, **kwargs):
    random.seed(0)
    policy = ViewPolicy(**kwargs)
    return [policy.draw(500, 375) for _ in range(n)]


def uniform(values, low, high):
    """Whether values are uniform on [low, high] (Kolmogorov, 1 % level)."""
    place = (np.sort(values) - low) / (high - low)
    assert place[0] >= 0 and place[-1] <= 1
    gap = np.abs(place - np.linspace(0, 1, len(place))).max()
    return gap < 1.63 / math.sqrt(len(place))


def share(flags, probability):
    """Whether a share is within 3.3 standard deviations."""
    deviation = math.sqrt(probability * (1 - probability) / len(flags))
    return abs(np.mean(flags) - probability) <= 3.3 * deviation


def test_draw__policy_of_simclr():
    draws = draws_of()
    jitters = [d.jitter for d in draws if d.jitter is not None]
    sigmas = [d.sigma for d in draws if d.sigma is not None]
    assert share([d.flip for d in draws], 0.5)
    assert share([d.jitter is not None for d in draws], 0.8)
    assert share([d.gray for d in draws], 0.2)
    assert share([d.sigma is not None for d in draws], 0.5)
    assert not any(d.solarize for d in draws)
    for name in ('brightness', 'contrast', 'saturation'):
        assert uniform([j[name] for j in jitters], 0.2, 1.8)
    assert uniform([j['hue'] for j in jitters], -0.2, 0.2)
    assert uniform(sigmas, 0.1, 2.0)
    orders = [j['order'] for j in jitters]
    assert len(set(orders)) == 24
    assert all(share([o[0] == k for o in orders], 0.25) for k in range(4))


def test_draw__choices_are_independent():
    draws = draws_of()
    table = np.array(
        [
            (d.flip, d.jitter is not None, d.gray, d.sigma is not None)
            for d in draws
        ],
        dtype=float,
    )
    correlation = np.corrcoef(table.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.06


def test_draw__strong_factors_stop_at_zero_and_solarize_has_a_rate():
    draws = draws_of(
        jitter_prob=1.0, brightness=1.5, hue=0.5, solarize_prob=0.2
    )
    assert uniform([d.jitter['brightness'] for d in draws], 0.0, 2.5)
    assert uniform([d.jitter['hue'] for d in draws], -0.5, 0.5)
    assert share([d.solarize for d in draws], 0.2)


def test_apply__is_the_chain_of_single_operations():
    image = np.random.RandomState(0).randint(0, 256, (60, 90, 3), np.uint8)
    policy = ViewPolicy(size=(24, 32), solarize_prob=0.5)
    random.seed(5)
    kinds = set()
    for _ in range(60):
        view = policy.draw(90, 60)
        expected = policy.cut(image, view)
        if view.jitter is not None:
            expected = photometric.color_jitter(expected, **view.jitter)
        if view.gray:
            gray = photometric.to_gray(expected)
            expected = np.repeat(gray[..., None], 3, axis=2)
        if view.sigma is not None:
            expected = photometric.gaussian_blur(expected, view.sigma)
        if view.solarize:
            expected = photometric.solarize(expected, 128)
        result = policy.apply(image, view)
        assert result.shape == (24, 32, 3) and result.dtype == np.uint8
        assert np.array_equal(result, expected)
        assert result.transpose(2, 0, 1).flags.c_contiguous
        kinds.add((view.gray, view.sigma is None, view.solarize))
    assert len(kinds) == 8


def test_apply__leaves_the_source_alone():
    image = np.random.RandomState(0).randint(0, 256, (32, 32, 3), np.uint8)
    before = image.copy()
    policy = ViewPolicy(size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    random.seed(0)
    for _ in range(20):
        policy.apply(image, policy.draw(32, 32))
    assert np.array_equal(image, before)


@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
def test_crop_only__leaves_the_crop(interpolation):
    image = np.random.RandomState(0).randint(0, 256, (60, 90, 3), np.uint8)
    policy = ViewPolicy(
        size=24, solarize_prob=1.0, flip_prob=1.0, interpolation=interpolation
    )
    plain = policy.crop_only()
    random.seed(5)
    for _ in range(20):
        view = plain.draw(90, 60)
        assert view.jitter is None and view.sigma is None
        assert not (view.flip or view.gray or view.solarize)
        expected = crop_resize(
            image, view.box, (24, 24), interpolation=interpolation
        )
        assert np.array_equal(plain.apply(image, view), expected)
    # the boxes are those of the whole policy
    random.seed(6)
    first = plain.draw(90, 60).box
    random.seed(6)
    assert policy.draw(90, 60).box == first
    assert policy.solarize_prob == 1.0


def test_apply__blur_limit_reaches_the_blur():
    image = np.random.RandomState(0).randint(0, 256, (64, 64, 3), np.uint8)
    settings = dict(size=64, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    results = {}
    for limit in (0.1, None):
        policy = ViewPolicy(blur_limit=limit, **settings)
        view = policy.crop_only().draw(64, 64)
        view.sigma = 2.0
        results[limit] = policy.apply(image, view)
        expected = photometric.gaussian_blur(image, 2.0, limit)
        assert np.array_equal(results[limit], expected)
    assert not np.array_equal(results[0.1], results[None])


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(flip_prob=1.5), 'flip_prob'),
        (dict(scale=(0.0, 1.0)), 'scale'),
        (dict(scale=(0.5, 0.2)), 'scale'),
        (dict(ratio=(0.0, 1.0)), 'ratio'),
        (dict(sigma=(0.0, 1.0)), 'sigma'),
        (dict(hue=0.7), 'hue'),
        (dict(contrast=-0.1), 'contrast'),
        (dict(size=0), 'size'),
        (dict(interpolation='nearest'), 'interpolation'),
        (dict(blur_limit=0.0), 'blur_limit'),
    ],
)
def test_policy__refuses_bad_values(wrong, message):
    with pytest.raises(ValueError, match=message):
        ViewPolicy(**wrong)
