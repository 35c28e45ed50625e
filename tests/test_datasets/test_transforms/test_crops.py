import io
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from mmdense.datasets.transforms.crops import (
    CropBox,
    choose_reduction,
    crop_resize,
    sample_crop,
    snap_crop,
    to_view,
)


def boxes_of(width, height, scale, ratio, n=4000):
    random.seed(0)
    return [sample_crop(width, height, scale, ratio) for _ in range(n)]


def test_sample_crop__square_image_has_the_stated_distributions():
    # with this little area no draw is rejected
    boxes = boxes_of(1000, 1000, (0.05, 0.45), (3 / 4, 4 / 3))
    area = np.array([b.width * b.height / 1e6 for b in boxes])
    log_ratio = np.log([b.width / b.height for b in boxes])
    for values, low, high in (
        (area, 0.05, 0.45),
        (log_ratio, math.log(3 / 4), math.log(4 / 3)),
    ):
        assert values.min() > low - 6e-3 and values.max() < high + 6e-3
        # Kolmogorov distance to the uniform distribution, 1 % level
        # whole pixels: a little beyond the ends
        place = (np.sort(values) - low) / (high - low)
        distance = np.abs(place - np.linspace(0, 1, len(place))).max()
        assert distance < 1.63 / math.sqrt(len(place))
    left = np.array([b.left / (1000 - b.width) for b in boxes])
    assert abs(left.mean() - 0.5) < 0.02 and abs(left.std() - 0.289) < 0.02


@pytest.mark.parametrize('size', [(500, 375), (375, 500), (224, 224)])
def test_sample_crop__same_moments_as_torchvision(size):
    width, height = size
    scale, ratio = (0.08, 1.0), (3 / 4, 4 / 3)
    ours = np.array(boxes_of(width, height, scale, ratio), dtype=float)
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    draws = [
        RandomResizedCrop.get_params(image, scale, ratio) for _ in range(4000)
    ]
    theirs = np.array([(j, i, w, h) for i, j, h, w in draws], dtype=float)
    side = np.array([width, height, width, height])
    for moment in (np.mean, np.std):
        difference = (moment(ours, axis=0) - moment(theirs, axis=0)) / side
        assert np.abs(difference).max() < 0.015


@pytest.mark.parametrize(
    'size, expected',
    [
        ((1000, 10), (13, 10)),
        ((10, 1000), (10, 13)),
        ((1, 1), (1, 1)),
        ((1, 5000), (1, 1)),
    ],
)
def test_sample_crop__extreme_images_get_the_centre(size, expected):
    width, height = size
    box = sample_crop(width, height, (0.9, 1.0), (3 / 4, 4 / 3))
    assert box[2:] == expected
    assert box.left == (width - box.width) // 2
    assert box.top == (height - box.height) // 2


@pytest.mark.parametrize(
    'sides, expected',
    [
        ([(447, 500)], 1),
        ([(448, 448)], 2),
        ([(2000, 2000), (448, 500)], 2),
        ([(896, 1000)], 4),
        ([(1792, 1792)], 8),
        ([(9000, 9000)], 8),
    ],
)
def test_choose_reduction__never_below_the_output(sides, expected):
    boxes = [CropBox(0, 0, w, h) for w, h in sides]
    assert choose_reduction(boxes, [(224, 224)] * len(boxes)) == expected


@pytest.mark.parametrize('reduction', [2, 4, 8])
def test_snap_crop__whole_reduced_pixels_inside_the_image(reduction):
    random.seed(1)
    for _ in range(300):
        box = sample_crop(501, 377, (0.1, 1.0))
        snapped = snap_crop(box, reduction, 501, 377)
        right = snapped.left + snapped.width
        bottom = snapped.top + snapped.height
        assert snapped.left % reduction == 0 and snapped.top % reduction == 0
        assert right % reduction == 0 or right == 501
        assert bottom % reduction == 0 or bottom == 377
        assert right <= 501 and bottom <= 377 and min(snapped) >= 0
        moved = np.abs(np.array(snapped[:2]) - np.array(box[:2])).max()
        assert moved <= reduction / 2


@pytest.mark.parametrize(
    'box', [(3, 5, 300, 200), (10, 0, 40, 40), (0, 0, 333, 257), (7, 7, 1, 1)]
)
@pytest.mark.parametrize('size', [(64, 64), (96, 48)])
def test_crop_resize__equals_pillow_bicubic(box, size):
    image = np.random.RandomState(0).randint(0, 256, (257, 333, 3), np.uint8)
    left, top, width, height = box
    ours = crop_resize(image, CropBox(*box), size)
    part = Image.fromarray(image).crop((left, top, left + width, top + height))
    theirs = np.asarray(part.resize(size[::-1], Image.BICUBIC))
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert difference.max() <= 1
    assert ours.dtype == np.uint8 and ours.shape == (*size, 3)


@pytest.mark.parametrize('box', [(3, 5, 300, 200), (7, 7, 30, 250)])
@pytest.mark.parametrize('size', [(64, 64), (96, 48), (224, 224)])
def test_crop_resize__equals_pillow_bilinear(box, size):
    image = np.random.RandomState(0).randint(0, 256, (257, 333, 3), np.uint8)
    left, top, width, height = box
    ours = crop_resize(image, CropBox(*box), size, interpolation='bilinear')
    part = Image.fromarray(image).crop((left, top, left + width, top + height))
    theirs = np.asarray(part.resize(size[::-1], Image.BILINEAR))
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    bicubic = crop_resize(image, CropBox(*box), size)
    assert np.abs(ours.astype(int) - bicubic.astype(int)).max() > 5


def test_crop_resize__narrower_and_taller_than_the_view():
    # Pillow shrinks before it enlarges, and cuts overshoots in between
    coarse = np.random.RandomState(0).randint(0, 256, (20, 20, 3), np.uint8)
    image = np.array(Image.fromarray(coarse).resize((120, 120)))
    ours = crop_resize(image, CropBox(10, 0, 60, 90), (64, 64))
    part = Image.fromarray(image).crop((10, 0, 70, 90))
    theirs = np.asarray(part.resize((64, 64), Image.BICUBIC))
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert difference.mean() < 0.3 and difference.max() <= 4


@pytest.mark.parametrize('flip', [False, True])
def test_to_view__follows_a_marked_pixel(flip):
    random.seed(3)
    size = (64, 64)
    for _ in range(40):
        box = sample_crop(300, 200, (0.1, 0.6))
        x = random.randrange(box.left + 8, box.left + box.width - 8)
        y = random.randrange(box.top + 8, box.top + box.height - 8)
        image = np.zeros((200, 300, 3), np.uint8)
        image[y - 3 : y + 4, x - 3 : x + 4] = 255
        view = crop_resize(image, box, size)[..., 0].astype(float)
        if flip:
            view = view[:, ::-1]
        rows, columns = np.mgrid[:64, :64] + 0.5
        found = (
            np.array([(view * columns).sum(), (view * rows).sum()])
            / view.sum()
        )
        expected = to_view(np.array([x + 0.5, y + 0.5]), box, size, flip)
        assert np.abs(found - expected).max() < 0.3


def test_crop_resize__reduced_image_is_close_to_the_full_one():
    from mmdense.datasets.image_io import EncodedImage

    rng = np.random.RandomState(0)
    noise = rng.rand(40, 50, 3) * 255
    image = Image.fromarray(noise.astype(np.uint8)).resize((499, 397))
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=95)
    encoded = EncodedImage(buffer.getvalue())
    box = snap_crop(CropBox(33, 21, 301, 277), 2, 499, 397)
    full = crop_resize(encoded.decode()[0], box, (96, 96)).astype(float)
    pixels, reduction = encoded.decode(2)
    assert reduction == 2 and pixels.shape == (199, 250, 3)
    reduced = crop_resize(pixels, box, (96, 96), reduction)
    assert np.abs(full - reduced).mean() < 1.5
