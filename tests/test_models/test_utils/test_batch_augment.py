"""Colour operations on batches, against torchvision and the uint8 ones."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as reference
from PIL import Image

from mmdense.datasets.transforms import ViewPolicy, photometric
from mmdense.datasets.transforms.view_policy import ViewDraw
from mmdense.models.utils.batch_augment import (
    augment_batch,
    blur_kernels,
    draw_pixels,
)
from mmdense.utils.pixel_policy import PixelPolicy

PHOTOS = Path(__file__).parents[3] / 'demo' / 'data' / 'photos'
NAMES = ('brightness', 'contrast', 'saturation', 'hue')
STRENGTH = dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)


@pytest.fixture(scope='module')
def images():
    """Eleven photos and colour noise, float (B, 3, 96, 96)."""
    files = sorted(PHOTOS.glob('*.jpg'))[::21]
    found = [
        np.array(Image.open(file).convert('RGB').resize((96, 96)))
        for file in files
    ]
    noise = np.random.RandomState(0).randint(0, 256, (96, 96, 3), np.uint8)
    stacked = np.stack([*found, noise])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float()


def draws_of(batch, **changes):
    """No operation at all, but for the changes."""
    never = torch.zeros(batch, dtype=torch.bool)
    values = dict(
        flip=never,
        jitter=never,
        factors=torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(batch, 1),
        order=torch.arange(4).repeat(batch, 1),
        gray=never,
        blur=never,
        sigma=torch.ones(batch),
        solarize=never,
    )
    values.update(changes)
    return type(draw_pixels(PixelPolicy(), 1))(**values)


def as_bytes(images):
    return images.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def with_numpy(image, draws, index, policy):
    """The uint8 operations of the loader with the same choices."""
    jitter = dict(zip(NAMES, draws.factors[index].tolist()))
    jitter['order'] = draws.order[index].tolist()
    view = ViewDraw(
        box=None,
        size=image.shape[:2],
        jitter=jitter if draws.jitter[index] else None,
        gray=bool(draws.gray[index]),
        sigma=float(draws.sigma[index]) if draws.blur[index] else None,
        solarize=bool(draws.solarize[index]),
    )
    if draws.flip[index]:
        image = np.ascontiguousarray(image[:, ::-1])
    return policy.pack(policy.soften(policy.recolor(image, view), view))


@pytest.mark.parametrize('kind', range(4))
def test_jitter__each_image_with_its_factor_as_in_torchvision(images, kind):
    batch = len(images)
    low, high = (-0.5, 0.5) if kind == 3 else (0.0, 2.0)
    values = torch.linspace(low, high, batch)
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(batch, 1)
    factors[:, kind] = values
    draws = draws_of(
        batch, jitter=torch.ones(batch, dtype=torch.bool), factors=factors
    )
    result = augment_batch(images.clone(), PixelPolicy(), draws)
    adjust = getattr(reference, f'adjust_{NAMES[kind]}')
    for image, value, after in zip(images, values.tolist(), result):
        expected = adjust(image / 255, value) * 255
        # torchvision's weight of red is 0.2989, here as in Pillow 0.299
        assert (after - expected).abs().max() < 0.05


def test_jitter__order_of_each_image(images):
    torch.manual_seed(0)
    policy = PixelPolicy(jitter_prob=1.0, **STRENGTH)
    draws = draw_pixels(policy, len(images))
    draws = draws_of(
        len(images),
        jitter=draws.jitter,
        factors=draws.factors,
        order=draws.order,
    )
    result = augment_batch(images.clone(), policy, draws)
    orders = set()
    for index, image in enumerate(images):
        expected = image / 255
        for kind in draws.order[index].tolist():
            adjust = getattr(reference, f'adjust_{NAMES[kind]}')
            expected = adjust(expected, draws.factors[index, kind].item())
        difference = (result[index] - expected * 255).abs()
        assert difference.max() < 0.5 and difference.mean() < 0.02
        orders.add(tuple(draws.order[index].tolist()))
    assert len(orders) > 6


@pytest.mark.parametrize('limit', [None, 0.1])
def test_blur__each_image_with_its_sigma(images, limit):
    batch = len(images)
    policy = PixelPolicy(blur_limit=limit, sigma=(0.1, 2.0))
    sigma = torch.linspace(0.1, 2.0, batch)
    blur = torch.ones(batch, dtype=torch.bool)
    draws = draws_of(batch, blur=blur, sigma=sigma)
    result = augment_batch(images.clone(), policy, draws)
    sources = as_bytes(images)
    for index, value in enumerate(sigma.tolist()):
        ours = result[index]
        uint8 = photometric.gaussian_blur(sources[index], value, limit)
        difference = ours - torch.from_numpy(uint8).permute(2, 0, 1)
        assert difference.abs().max() <= 0.6
        if limit is None:
            # 17 taps: four sigma on each side at least
            exact = reference.gaussian_blur(images[index], 17, value)
            assert (ours - exact).abs().max() < 0.2


def test_blur_kernels__halves_of_whole_kernels():
    kernels = blur_kernels(
        torch.tensor([0.1, 1.0, 2.0]), 224, PixelPolicy(blur_limit=None)
    )
    assert kernels.shape == (3, 8)
    whole = torch.cat([kernels.flip(1)[:, :-1], kernels], dim=1)
    assert torch.allclose(whole.sum(dim=1), torch.ones(3))
    taps = torch.arange(-7, 8.0)
    variance = (whole * taps**2).sum(dim=1)
    assert variance[2] == pytest.approx(4.0, rel=0.01)
    assert variance[1] == pytest.approx(1.0, rel=0.01)
    assert (kernels[1, 5:] == 0).all()  # beyond 3.5 sigma


@pytest.mark.parametrize('side', [1, 2, 5])
def test_blur__images_smaller_than_the_kernel(side):
    flat = torch.full((2, 3, side, side), 90.0)
    blur = torch.ones(2, dtype=torch.bool)
    policy = PixelPolicy(blur_limit=None)
    result = augment_batch(flat, policy, draws_of(2, blur=blur))
    assert torch.allclose(result, torch.full_like(result, 90.0))


@pytest.mark.parametrize('threshold', [0, 100, 128, 256])
def test_solarize__equals_the_uint8_operation(images, threshold):
    chosen = torch.ones(len(images), dtype=torch.bool)
    policy = PixelPolicy(solarize_threshold=threshold)
    draws = draws_of(len(images), solarize=chosen)
    result = augment_batch(images.clone(), policy, draws)
    for after, source in zip(as_bytes(result), as_bytes(images)):
        assert np.array_equal(after, photometric.solarize(source, threshold))


def test_gray_and_flip__equal_the_uint8_operations(images):
    batch = len(images)
    chosen = torch.ones(batch, dtype=torch.bool)
    gray = augment_batch(
        images.clone(), PixelPolicy(), draws_of(batch, gray=chosen)
    )
    assert torch.equal(gray[:, 0], gray[:, 1])
    assert torch.equal(gray[:, 0], gray[:, 2])
    for after, source in zip(gray[:, 0].numpy(), as_bytes(images)):
        assert np.abs(after - photometric.to_gray(source)).max() < 0.51
    flipped = augment_batch(
        images.clone(), PixelPolicy(), draws_of(batch, flip=chosen)
    )
    assert torch.equal(flipped, images.flip(-1))


@pytest.mark.parametrize('name', ['flip', 'gray', 'blur', 'solarize'])
def test_augment__other_images_stay_as_they_are(images, name):
    chosen = torch.zeros(len(images), dtype=torch.bool)
    chosen[[1, 4]] = True
    draws = draws_of(len(images), **{name: chosen})
    result = augment_batch(images.clone(), PixelPolicy(), draws)
    same = (result == images).flatten(1).all(dim=1)
    assert same.tolist() == (~chosen).tolist()


def test_augment__near_the_uint8_pipeline(images):
    torch.manual_seed(0)
    policy = ViewPolicy(
        size=96, solarize_prob=0.3, blur_limit=None, **STRENGTH
    )
    sources = as_bytes(images)
    photos, bias = [], []
    for _ in range(12):
        draws = draw_pixels(policy, len(images))
        result = augment_batch(images.clone(), policy, draws)
        for index, after in enumerate(result.permute(0, 2, 3, 1).numpy()):
            expected = with_numpy(sources[index], draws, index, policy)
            difference = np.abs(after - expected)
            assert difference.mean() < 2.0
            if index < len(images) - 1:
                photos.append(difference)
            bias.append((after - expected).mean())
    photos = np.stack(photos)
    assert photos.mean() < 0.9 and np.quantile(photos, 0.99) < 3.0
    # the tables of the loader cut decimals off
    assert 0 < np.mean(bias) < 0.8


def test_augment__untouched_by_autocast(images):
    policy = PixelPolicy(solarize_prob=0.5)
    torch.manual_seed(0)
    draws = draw_pixels(policy, len(images))
    plain = augment_batch(images.clone(), policy, draws)
    with torch.autocast('cpu', torch.bfloat16):
        inside = augment_batch(images.clone(), policy, draws)
    assert inside.dtype == torch.float32 and torch.equal(plain, inside)


def uniform(values, low, high):
    """Whether values are uniform on [low, high] (Kolmogorov, 1 % level)."""
    place = (np.sort(values) - low) / (high - low)
    assert place[0] >= 0 and place[-1] <= 1
    gap = np.abs(place - np.linspace(0, 1, len(place))).max()
    return gap < 1.63 / math.sqrt(len(place))


def share(flags, probability):
    """Whether a share is within 3.3 standard deviations."""
    deviation = math.sqrt(probability * (1 - probability) / len(flags))
    return abs(float(flags.float().mean()) - probability) <= 3.3 * deviation


def test_draw__distributions_of_the_policy():
    torch.manual_seed(0)
    policy = PixelPolicy(
        flip_prob=0.4,
        jitter_prob=0.8,
        gray_prob=0.2,
        blur_prob=0.1,
        sigma=(0.1, 2.0),
        solarize_prob=0.3,
        brightness=1.5,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
    )
    draws = draw_pixels(policy, 8000)
    for name in ('flip', 'jitter', 'gray', 'blur', 'solarize'):
        flags = getattr(draws, name)
        assert flags.shape == (8000,)
        assert share(flags, getattr(policy, f'{name}_prob')), name
    ranges = ((0, 2.5), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1))
    for kind, (low, high) in enumerate(ranges):
        assert uniform(draws.factors[:, kind].double().numpy(), low, high)
    assert uniform(draws.sigma.double().numpy(), 0.1, 2.0)
    orders = [tuple(order) for order in draws.order.tolist()]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    # chi-square with 23 degrees of freedom, 1 % level
    expected = 8000 / 24
    assert ((counts - expected) ** 2 / expected).sum() < 41.6
    flags = torch.stack(
        [draws.flip, draws.jitter, draws.gray, draws.blur, draws.solarize]
    )
    table = torch.cat([flags.double(), draws.factors.T, draws.sigma[None]])
    correlation = np.corrcoef(table.numpy()) - np.eye(len(table))
    assert np.abs(correlation).max() < 0.045


def test_draw__amount_depends_on_the_batch_alone():
    states = []
    for policy in (PixelPolicy(), PixelPolicy(blur_prob=0.0, flip_prob=1.0)):
        generator = torch.Generator().manual_seed(3)
        draw_pixels(policy, 17, generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_augment__on_the_device_without_waiting_for_it(images):
    policy = PixelPolicy(solarize_prob=0.5, blur_limit=None, **STRENGTH)
    torch.manual_seed(0)
    draws = draw_pixels(policy, len(images))
    expected = augment_batch(images.clone(), policy, draws)
    moved = images.cuda()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        result = augment_batch(moved.clone(), policy, draws)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    difference = (result.cpu() - expected).abs()
    # a value on the threshold of solarisation may fall on either side
    assert difference.quantile(0.9999) < 0.05 and difference.max() < 2
