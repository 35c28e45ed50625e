"""Crops from bytes to normalised tensors, augmented on the way or not."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.models.utils import SelfSupDataPreprocessor
from mmpretrain.structures import DataSample

from mmdense.models.data_preprocessors import MultiCropPreprocessor
from mmdense.models.utils.batch_augment import augment_batch, draw_pixels
from mmdense.utils.errors import UserError
from mmdense.utils.pixel_policy import PixelPolicy

ROOT = Path(__file__).parents[3]
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
STILL = dict(flip_prob=0, jitter_prob=0, gray_prob=0, blur_prob=0)


def build(**kwargs):
    return MultiCropPreprocessor(mean=MEAN, std=STD, **kwargs)


def sample_of(sizes):
    crops = [
        torch.randint(0, 256, (3, s, s), dtype=torch.uint8) for s in sizes
    ]
    return dict(inputs=crops, data_samples=DataSample())


def batch_of(sizes, batch=2):
    return default_collate([sample_of(sizes) for _ in range(batch)])


def normalised(images):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (images.float() - mean) / std


@pytest.mark.parametrize(
    'augment, training',
    [
        (None, True),
        ([dict(num=2), dict(num=3)], False),
        ([dict(num=2, **STILL), dict(num=3, **STILL)], True),
    ],
)
def test_forward__equals_stock_where_nothing_is_augmented(augment, training):
    batch = batch_of((16, 16, 8, 8, 8))
    result = build(augment=augment)(batch, training=training)
    stock = SelfSupDataPreprocessor(mean=MEAN, std=STD)(batch, training=True)
    assert len(result['inputs']) == 5
    for ours, theirs, raw in zip(
        result['inputs'], stock['inputs'], batch['inputs']
    ):
        assert ours.dtype == torch.float32
        assert torch.allclose(ours, theirs, atol=1e-6)
        assert torch.allclose(ours, normalised(raw), atol=1e-6)
    assert len(result['data_samples']) == 2


def test_forward__each_kind_is_one_batch_with_its_own_policy():
    views = [
        dict(size=16, scale=(0.25, 1.0), blur_prob=1.0, sigma=(0.5, 2.0)),
        dict(num=3, size=8, interpolation='bilinear', solarize_prob=0.5),
    ]
    batch = batch_of((16, 8, 8, 8), batch=4)
    torch.manual_seed(3)
    result = build(augment=views)(batch, training=True)['inputs']
    torch.manual_seed(3)
    first = PixelPolicy(blur_prob=1.0, sigma=(0.5, 2.0))
    second = PixelPolicy(solarize_prob=0.5)
    inputs = batch['inputs']
    expected = [
        augment_batch(inputs[0].float(), first, draw_pixels(first, 4)),
        augment_batch(
            torch.cat(inputs[1:]).float(), second, draw_pixels(second, 12)
        ),
    ]
    assert torch.allclose(result[0], normalised(expected[0]), atol=1e-6)
    assert torch.allclose(
        torch.cat(result[1:]), normalised(expected[1]), atol=1e-6
    )
    assert [len(crop) for crop in result] == [4] * 4


def test_forward__moves_bytes(monkeypatch):
    moved = []
    stock = BaseDataPreprocessor.cast_data

    def spy(self, data):
        if isinstance(data, torch.Tensor):
            moved.append(data.dtype)
        return stock(self, data)

    monkeypatch.setattr(BaseDataPreprocessor, 'cast_data', spy)
    module = build(augment=[dict(num=2), dict(num=2)])
    module(batch_of((16, 16, 8, 8)), training=True)
    assert moved == [torch.uint8] * 4


def test_forward__leaves_its_inputs_alone():
    crops = [torch.rand(4, 3, 8, 8) * 255]
    before = crops[0].clone()
    module = build(augment=[dict(gray_prob=1.0, solarize_prob=1.0)])
    result = module(dict(inputs=crops), training=True)
    assert torch.equal(crops[0], before)
    assert result['data_samples'] is None
    assert not torch.equal(result['inputs'][0], normalised(before))


def test_forward__swaps_channels_first():
    batch = batch_of((8,), batch=3)
    still = build(augment=[dict(STILL)], bgr_to_rgb=True)
    result = still(batch, training=True)['inputs'][0]
    expected = normalised(batch['inputs'][0].flip(1))
    assert torch.allclose(result, expected, atol=1e-6)


def test_forward__one_tensor_is_normalised():
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    module = build(augment=[dict()])
    result = module(dict(inputs=images, data_samples=None))
    assert torch.allclose(result['inputs'], normalised(images), atol=1e-6)


def crops_of(*shapes):
    return dict(
        inputs=[torch.zeros(shape, dtype=torch.uint8) for shape in shapes],
        data_samples=None,
    )


@pytest.mark.parametrize('augment', [None, [dict(num=2)]])
def test_forward__refuses_unequal_crop_lists(augment):
    data = crops_of((4, 3, 8, 8), (3, 3, 8, 8))
    with pytest.raises(UserError, match=r'numbers of images: \[4, 3\]'):
        build(augment=augment)(data, training=True)


@pytest.mark.parametrize(
    'data, message',
    [
        (crops_of((2, 3, 8, 8)), 'describes 2 crops, the batch has 1'),
        (crops_of((2, 3, 8, 8), (2, 3, 6, 6)), 'differ in shape'),
        (crops_of(), 'no crops'),
        (crops_of((3, 8, 8), (3, 8, 8)), 'default_collate'),
        (pseudo_collate([sample_of((8, 8))] * 2), r'not a batch of crops'),
    ],
)
def test_forward__refuses_other_lists(data, message):
    with pytest.raises(UserError, match=message):
        build(augment=[dict(num=2)])(data, training=True)


@pytest.mark.parametrize(
    'view, message',
    [(dict(flop_prob=0.5), 'flop_prob'), (dict(hue=0.7), 'hue')],
)
def test_build__refuses_bad_policies(view, message):
    with pytest.raises(ValueError, match=message):
        build(augment=[view])


def test_config__views_divided_between_loader_and_device(
    tmp_path, monkeypatch
):
    base = ROOT / 'configs' / '_base_' / 'datasets' / 'demo_multi_crop.py'
    path = tmp_path / 'divided.py'
    path.write_text(
        f'_base_ = [{str(base)!r}]\n'
        'views = _base_.views\n'
        'train_dataloader = dict(dataset=dict(pipeline=[\n'
        "    dict(type='mmdense.MultiViewCrops', views=views,\n"
        '         crop_only=True),\n'
        "    dict(type='mmpretrain.PackInputs')]))\n"
        'model = dict(data_preprocessor=dict(\n'
        "    type='mmdense.MultiCropPreprocessor', augment=views))\n"
    )
    cfg = Config.fromfile(str(path))
    init_default_scope('mmdense')
    monkeypatch.chdir(ROOT)
    loader = dict(cfg.train_dataloader)
    loader.update(batch_size=4, num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(loader, seed=0)
    plain = loader.dataset.pipeline.transforms[0].policies
    assert all(p.flip_prob == p.blur_prob == p.gray_prob == 0 for p in plain)
    batch = next(iter(loader))
    assert all(crop.dtype == torch.uint8 for crop in batch['inputs'])
    # on the device everything that the loader has left out is done
    augment = cfg.model.data_preprocessor.augment
    module = build(augment=augment)
    assert [number for number, _ in module.kinds] == [1, 1, 4]
    assert [p.blur_prob for _, p in module.kinds] == [1.0, 0.1, 0.5]
    assert [p.solarize_prob for _, p in module.kinds] == [0.0, 0.2, 0.0]
    result = module(batch, training=True)['inputs']
    shapes = [tuple(crop.shape) for crop in result]
    assert shapes == [(4, 3, 96, 96)] * 2 + [(4, 3, 48, 48)] * 4
    rest = module(batch, training=False)['inputs']
    assert not any(torch.equal(a, b) for a, b in zip(result, rest))
