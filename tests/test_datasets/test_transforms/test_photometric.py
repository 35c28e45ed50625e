import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as reference
from PIL import Image, ImageFilter, ImageOps

from mmdense.datasets.transforms import photometric

PHOTOS = Path(__file__).parents[3] / 'demo' / 'data' / 'photos'
OPERATIONS = ('brightness', 'contrast', 'saturation', 'hue')


@pytest.fixture(scope='module')
def images():
    """Seven photos and colour noise, 96x96."""
    files = sorted(PHOTOS.glob('*.jpg'))[::33]
    found = [
        np.array(Image.open(file).convert('RGB').resize((96, 96)))
        for file in files
    ]
    noise = np.random.RandomState(0).randint(0, 256, (96, 96, 3), np.uint8)
    return [*found, noise]


def distance(a, b):
    return np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int))


def as_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1)


def as_array(tensor):
    return tensor.permute(1, 2, 0).numpy()


@pytest.mark.parametrize('factor', [0.0, 0.2, 0.7, 1.0, 1.3, 1.8])
@pytest.mark.parametrize('name', OPERATIONS[:3])
def test_adjust__within_rounding_of_torchvision(images, name, factor):
    ours = getattr(photometric, f'adjust_{name}')
    theirs = getattr(reference, f'adjust_{name}')
    for image in images:
        result = ours(image, factor)
        pillow = np.asarray(theirs(Image.fromarray(image), factor))
        tensor = as_array(theirs(as_tensor(image), factor))
        assert distance(result, pillow).max() <= 1
        # torchvision cuts off decimals twice in the tensor version
        assert distance(result, tensor).max() <= 2
        assert distance(result, tensor).mean() <= 1


@pytest.mark.parametrize('factor', [-0.5, -0.2, -0.05, 0.0, 0.1, 0.2, 0.5])
def test_adjust_hue__near_torchvision(images, factor):
    for image in images:
        result = photometric.adjust_hue(image, factor)
        tensor = as_array(reference.adjust_hue(as_tensor(image), factor))
        assert distance(result, tensor).mean() < 1.0
        pillow = reference.adjust_hue(Image.fromarray(image), factor)
        # Pillow's circle has 256 steps, torchvision shifts it by 255 h
        assert distance(result, np.asarray(pillow)).mean() < 2.2


def test_color_jitter__random_sequences_near_torchvision(images):
    random.seed(0)
    pillow_mean, tensor_mean, bias = [], [], []
    for turn in range(48):
        image = images[turn % len(images)]
        order = random.sample(range(4), 4)
        factors = [random.uniform(0.2, 1.8) for _ in range(3)]
        factors.append(random.uniform(-0.2, 0.2))
        result = photometric.color_jitter(image, *factors, order=order)
        pillow, tensor = Image.fromarray(image), as_tensor(image)
        for index in order:
            adjust = getattr(reference, f'adjust_{OPERATIONS[index]}')
            pillow = adjust(pillow, factors[index])
            tensor = adjust(tensor, factors[index])
        pillow_mean.append(distance(result, np.asarray(pillow)).mean())
        tensor_mean.append(distance(result, as_array(tensor)).mean())
        bias.append(np.mean(result.astype(float) - as_array(tensor)))
    assert np.mean(pillow_mean) < 1.0 and max(pillow_mean) < 2.0
    assert np.mean(tensor_mean) < 1.0 and max(tensor_mean) < 2.0
    assert abs(np.mean(bias)) < 0.6


def test_color_jitter__order_matters_and_equals_single_steps(images):
    image = images[0]
    factors = dict(brightness=1.7, contrast=0.4, saturation=1.5, hue=0.1)
    seen = set()
    for order in [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2), (0, 2, 1, 3)]:
        expected = image
        for index in order:
            name = OPERATIONS[index]
            adjust = getattr(photometric, f'adjust_{name}')
            expected = adjust(expected, factors[name])
        result = photometric.color_jitter(image, **factors, order=order)
        assert np.array_equal(result, expected)
        seen.add(result.tobytes())
    assert len(seen) == 4


def test_to_gray__equals_pillow_and_torchvision(images):
    for image in images:
        result = photometric.to_gray(image)
        pillow = np.asarray(Image.fromarray(image).convert('L'))
        assert distance(result, pillow).max() <= 1
        tensor = reference.rgb_to_grayscale(as_tensor(image))[0].numpy()
        assert distance(result, tensor).max() <= 1


@pytest.mark.parametrize('sigma', [0.1, 0.4, 1.0, 1.5, 2.0])
def test_gaussian_blur__equals_the_full_kernel(sigma):
    rng = np.random.RandomState(0)
    image = rng.randint(0, 256, (224, 224, 3), np.uint8)
    result = photometric.gaussian_blur(image, sigma)
    # 23 taps: 10 % of the side
    exact = reference.gaussian_blur(as_tensor(image), 23, sigma)
    assert distance(result, as_array(exact)).max() <= 1
    gray = photometric.gaussian_blur(image[..., 0], sigma)
    assert np.array_equal(gray, result[..., 0])


def test_gaussian_blur__near_pillow(images):
    for image in images[:-1]:
        for sigma in (0.3, 1.0, 2.0):
            blur = ImageFilter.GaussianBlur(sigma)
            pillow = np.asarray(Image.fromarray(image).filter(blur))
            result = photometric.gaussian_blur(image, sigma)
            assert distance(result, pillow).mean() < 2.0


@pytest.mark.parametrize('side', [96, 224])
@pytest.mark.parametrize('sigma', [0.1, 0.5, 1.0, 2.0])
def test_gaussian_blur__without_limit_is_a_whole_gaussian(side, sigma):
    image = np.random.RandomState(0).randint(0, 256, (side, side, 3), np.uint8)
    result = photometric.gaussian_blur(image, sigma, limit=None)
    exact = reference.gaussian_blur(as_tensor(image), 17, sigma)
    assert distance(result, as_array(exact)).max() <= 1


def test_gaussian_blur__without_limit_is_nearer_to_pillow(images):
    """Pillow passes three boxes and repeats the edge; ours mirrors it."""
    limited = []
    for image in images[:-1]:
        for sigma in (0.1, 0.5, 1.0, 2.0):
            blur = ImageFilter.GaussianBlur(sigma)
            pillow = np.asarray(Image.fromarray(image).filter(blur))
            result = photometric.gaussian_blur(image, sigma, limit=None)
            inner = distance(result, pillow)[8:-8, 8:-8]
            assert inner.mean() < 0.8 and inner.max() <= 8
        limited.append(distance(photometric.gaussian_blur(image, 2), pillow))
        limited[-1] = limited[-1].mean() - distance(result, pillow).mean()
    # at 96 pixels nine taps are too few for a sigma of 2
    assert np.mean(limited) > 0.1


def test_gaussian_blur__keeps_a_constant_and_limits_the_kernel():
    flat = np.full((32, 32, 3), 77, np.uint8)
    assert (photometric.gaussian_blur(flat, 2.0) == 77).all()
    spot = np.zeros((40, 40), np.uint8)
    spot[20, 20] = 255
    reached = np.nonzero(photometric.gaussian_blur(spot, 2.0))[0]
    assert reached.min() == 18 and reached.max() == 22  # 10 % of 40: +-2


@pytest.mark.parametrize('threshold', [0, 128, 200, 256])
def test_solarize__equals_torchvision_and_pillow(images, threshold):
    for image in images:
        expected = np.where(image >= threshold, 255 - image, image)
        result = photometric.solarize(image, threshold)
        assert np.array_equal(result, expected)
        pillow = ImageOps.solarize(Image.fromarray(image), threshold)
        assert np.array_equal(result, np.asarray(pillow))
    if threshold == 128:
        tensor = reference.solarize(as_tensor(images[0]), threshold)
        result = photometric.solarize(images[0], threshold)
        assert np.array_equal(result, as_array(tensor))
