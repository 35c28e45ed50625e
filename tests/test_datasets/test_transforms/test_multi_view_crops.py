import random

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate, pseudo_collate
from PIL import Image

from mmdense.datasets import BadImageError, EncodedImage
from mmdense.datasets.transforms.crops import to_view
from mmdense.registry import TRANSFORMS

PLAIN = dict(jitter_prob=0.0, gray_prob=0.0, blur_prob=0.0)


def build(**kwargs):
    return TRANSFORMS.build(dict(type='mmdense.MultiViewCrops', **kwargs))


def pack(**kwargs):
    return TRANSFORMS.build(dict(type='mmpretrain.PackInputs', **kwargs))


@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    rng = np.random.RandomState(0)
    pixels = rng.randint(0, 256, (30, 40, 3), np.uint8)
    path = tmp_path_factory.mktemp('photo') / 'photo.jpg'
    Image.fromarray(pixels).resize((320, 240)).save(path, quality=95)
    return str(path)


def test_transform__views_of_every_kind_packed_as_uint8(photo):
    random.seed(0)
    crops = build(
        views=[dict(num=2, size=64), dict(num=3, size=(32, 48))], record=True
    )
    results = crops(dict(img_path=photo, sample_idx=4))
    assert [p['size'] for p in results['view_params']] == [
        (64, 64),
        (64, 64),
        (32, 48),
        (32, 48),
        (32, 48),
    ]
    first = results['img'][0]
    sample = pack(
        meta_keys=('img_path', 'sample_idx', 'ori_shape', 'view_params')
    )(results)
    views, info = sample['inputs'], sample['data_samples']
    assert [tuple(v.shape) for v in views] == [(3, 64, 64)] * 2 + [
        (3, 32, 48)
    ] * 3
    assert all(v.dtype == torch.uint8 and v.is_contiguous() for v in views)
    assert info.ori_shape == (240, 320) and info.img_path == photo
    assert len(info.view_params) == 5
    # packing shares memory with the views
    assert views[0].data_ptr() == first.__array_interface__['data'][0]
    assert not torch.equal(views[0], views[1])


def test_transform__collates(photo):
    random.seed(0)
    crops = build(views=[dict(num=2, size=32), dict(num=1, size=16)])
    samples = [pack()(crops(dict(img_path=photo))) for _ in range(3)]
    batch = default_collate(samples)
    assert [tuple(v.shape) for v in batch['inputs']] == [
        (3, 3, 32, 32),
        (3, 3, 32, 32),
        (3, 3, 16, 16),
    ]
    assert batch['inputs'][0].dtype == torch.uint8
    listed = pseudo_collate(samples)
    assert len(listed['inputs']) == 3 and len(listed['inputs'][0]) == 3


def test_transform__decodes_once_and_reduced_where_it_may(
    tmp_path, monkeypatch
):
    path = tmp_path / 'big.jpg'
    Image.new('RGB', (640, 480), (90, 20, 200)).save(path)
    calls = []
    stock = EncodedImage.decode

    def spy(self, reduction=1):
        calls.append(reduction)
        return stock(self, reduction)

    monkeypatch.setattr(EncodedImage, 'decode', spy)
    whole = dict(num=2, size=48, scale=(1.0, 1.0), **PLAIN)
    for reduce, expected in ((True, 8), (False, 1)):
        calls.clear()
        crops = build(views=[whole], reduce=reduce)
        results = crops(dict(img_path=str(path)))
        assert calls == [expected]
        mean = results['img'][0].reshape(-1, 3).mean(axis=0)
        assert np.abs(mean - (90, 20, 200)).max() < 3


@pytest.mark.parametrize('reduce', [False, True])
def test_transform__a_pixel_lands_in_the_right_patch(tmp_path, reduce):
    width, height, patch = 640, 480, 16
    random.seed(7)
    crops = build(
        views=[dict(num=2, size=96, scale=(0.3, 1.0), **PLAIN)],
        record=True,
        reduce=reduce,
    )
    checked = 0
    for _ in range(30):
        x, y = random.randrange(width), random.randrange(height)
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[max(y - 9, 0) : y + 10, max(x - 9, 0) : x + 10] = 255
        path = tmp_path / 'marked.jpg'
        Image.fromarray(pixels).save(path, quality=95)
        results = crops(dict(img_path=str(path)))
        for view, params in zip(results['img'], results['view_params']):
            point = to_view(
                np.array([x + 0.5, y + 0.5]),
                params['box'],
                params['size'],
                params['flip'],
            )
            inside = (point >= 3).all() and (point < 93).all()
            near_edge = np.abs(point / patch - np.round(point / patch)) < 0.05
            if not inside or near_edge.any():
                continue
            column, row = (point // patch).astype(int)
            light = view[..., 0].astype(float)
            rows, columns = np.mgrid[:96, :96] + 0.5
            found = (
                int((light * columns).sum() / light.sum() // patch),
                int((light * rows).sum() / light.sum() // patch),
            )
            assert found == (column, row)
            checked += 1
    assert checked > 15


def test_transform__loaded_image_in_either_order():
    image = np.zeros((40, 40, 3), np.uint8)
    image[..., 0] = 200
    view = dict(size=16, **PLAIN)
    bgr = build(views=[view])(dict(img=image))['img'][0]
    rgb = build(views=[view], channel_order='rgb')(dict(img=image))['img'][0]
    assert (bgr[..., 2] == 200).all() and (bgr[..., 0] == 0).all()
    assert (rgb[..., 0] == 200).all() and (rgb[..., 2] == 0).all()
    with pytest.raises(BadImageError, match='uint8'):
        build(views=[view])(dict(img=image.astype(np.float32)))


@pytest.mark.parametrize('size', [(1, 1), (3, 500), (700, 2)])
def test_transform__tiny_and_extreme_images(tmp_path, size):
    path = tmp_path / 'odd.png'
    Image.new('RGB', size, (10, 200, 30)).save(path)
    random.seed(0)
    views = build(views=[dict(num=2, size=32, **PLAIN)])(
        dict(img_path=str(path))
    )['img']
    assert all((view == (10, 200, 30)).all() for view in views)


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(views=[]), 'empty'),
        (dict(views=[dict(flop_prob=0.5)]), 'flip_prob'),
        (dict(views=[dict()], channel_order='gbr'), 'channel_order'),
    ],
)
def test_build__refuses_bad_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        build(**wrong)


def test_transform__near_the_stock_chain(photo):
    """Same box and factors: Pillow's operations give nearly the same."""
    random.seed(2)
    crops = build(
        views=[dict(size=64, gray_prob=0.0)], record=True, reduce=False
    )
    image = np.asarray(Image.open(photo).convert('RGB'))
    import torchvision.transforms.functional as reference

    names = ('brightness', 'contrast', 'saturation', 'hue')
    for _ in range(10):
        results = crops(dict(img_path=photo))
        params = results['view_params'][0]
        left, top, width, height = params['box']
        view = Image.fromarray(image).crop(
            (left, top, left + width, top + height)
        )
        view = view.resize((64, 64), Image.BICUBIC)
        if params['flip']:
            view = reference.hflip(view)
        if params['jitter'] is not None:
            for index in params['jitter']['order']:
                adjust = getattr(reference, f'adjust_{names[index]}')
                view = adjust(view, params['jitter'][names[index]])
        if params['sigma'] is not None:
            # seven taps, 10 % of the side
            view = reference.gaussian_blur(view, 7, params['sigma'])
        difference = np.asarray(view, float) - results['img'][0]
        assert np.abs(difference).mean() < 2.7


def test_repr__names_the_policies():
    assert 'ViewPolicy' in repr(build(views=[dict(size=8)]))
