"""The stock preprocessor does what the uint8 pipelines need."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.model import BaseDataPreprocessor
from mmpretrain.structures import DataSample

from mmdense.registry import MODELS

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def build():
    return MODELS.build(
        dict(
            type='mmpretrain.SelfSupDataPreprocessor',
            mean=list(MEAN),
            std=list(STD),
        )
    )


def batch_of(sizes):
    generator = torch.Generator().manual_seed(0)
    return [
        dict(
            inputs=[
                torch.randint(
                    0, 256, (3, s, s), dtype=torch.uint8, generator=generator
                )
                for s in sizes
            ],
            data_samples=DataSample(),
        )
        for _ in range(2)
    ]


@pytest.mark.parametrize('sizes', [(8, 8), (16, 16, 8, 8, 8)])
def test_forward__moves_bytes_and_normalises_there(sizes, monkeypatch):
    moved = []
    stock = BaseDataPreprocessor.cast_data

    def spy(self, data):
        if isinstance(data, torch.Tensor):
            moved.append(data.dtype)
        return stock(self, data)

    monkeypatch.setattr(BaseDataPreprocessor, 'cast_data', spy)
    batch = default_collate(batch_of(sizes))
    result = build()(batch, training=True)
    assert moved == [torch.uint8] * len(sizes)
    for view, raw in zip(result['inputs'], batch['inputs']):
        assert view.dtype == torch.float32
        for channel in range(3):
            expected = raw[:, channel].double() - MEAN[channel]
            expected = expected / STD[channel]
            assert torch.allclose(view[:, channel].double(), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_forward__on_the_device():
    batch = default_collate(batch_of((8, 8)))
    result = build().cuda()(batch, training=True)
    expected = build()(batch, training=True)
    for a, b in zip(result['inputs'], expected['inputs']):
        assert a.is_cuda and torch.allclose(a.cpu(), b)


def test_configs__pipelines_give_rgb_and_the_model_keeps_the_order():
    root = Path(__file__).parents[2] / 'configs' / '_base_' / 'models'
    cfg = Config.fromfile(str(root / 'vit-small-p16_local-global.py'))
    found = MODELS.build(cfg.model.data_preprocessor)
    assert not found._channel_conversion
    assert torch.allclose(found.mean.flatten(), torch.tensor(MEAN))
