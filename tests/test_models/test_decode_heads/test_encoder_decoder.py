import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import nn

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmseg.models.segmentors import (  # noqa: E402
    EncoderDecoder as StockEncoderDecoder,
)
from mmseg.structures import SegDataSample  # noqa: E402

from mmdense.models.decode_heads import EncoderDecoder  # noqa: E402
from mmdense.registry import MODELS  # noqa: E402


class Pixels(nn.Module):
    def forward(self, x):
        return (x,)


@pytest.fixture(autouse=True)
def backbone():
    MODELS.register_module(name='Pixels', module=Pixels)
    yield
    MODELS._module_dict.pop('Pixels')


def make_model(cls=EncoderDecoder, **options):
    torch.manual_seed(0)
    model = cls(
        backbone=dict(type='mmdense.Pixels'),
        decode_head=dict(
            type='mmseg.FCNHead',
            in_channels=3,
            channels=4,
            num_convs=1,
            num_classes=5,
            loss_decode=dict(type='mmseg.CrossEntropyLoss'),
        ),
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor'),
        **options,
    )
    nn.init.normal_(model.decode_head.conv_seg.weight)
    return model.eval()


def make_samples():
    metas = (
        dict(ori_shape=(20, 31), img_shape=(12, 16)),
        dict(
            ori_shape=(9, 7),
            img_shape=(12, 16),
            img_padding_size=(0, 4, 0, 2),
            flip=True,
            flip_direction='horizontal',
        ),
    )
    return [SegDataSample(metainfo=meta) for meta in metas]


def predict(model, inputs, samples=None):
    with torch.no_grad():
        return model.predict(inputs, samples)


def test_encoder_decoder__bicubic_logits_of_the_original_size():
    model = make_model(test_cfg=dict(interpolation='bicubic'))
    inputs = torch.randn(2, 3, 12, 16)
    got = predict(model, inputs, make_samples())
    with torch.no_grad():
        logits = model(inputs, mode='tensor')
    parts = [logits[:1], logits[1:, :, :10, :12].flip(3)]
    for one, part, size in zip(got, parts, [(20, 31), (9, 7)]):
        expected = F.interpolate(part, size, mode='bicubic')[0]
        torch.testing.assert_close(one.seg_logits.data, expected)
        classes = expected.argmax(dim=0, keepdim=True)
        assert torch.equal(one.pred_sem_seg.data, classes)


def test_encoder_decoder__default_is_the_stock_class():
    inputs = torch.randn(2, 3, 12, 16)
    stock = make_model(StockEncoderDecoder, test_cfg=ConfigDict(mode='whole'))
    for samples in (make_samples, lambda: None):
        pairs = zip(
            predict(make_model(), inputs, samples()),
            predict(stock, inputs, samples()),
        )
        for ours, theirs in pairs:
            assert torch.equal(ours.seg_logits.data, theirs.seg_logits.data)


def test_encoder_decoder__unknown_interpolation():
    with pytest.raises(ValueError, match='bicubic'):
        make_model(test_cfg=dict(interpolation='nearest'))
