import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from torch import nn

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmseg.structures import SegDataSample  # noqa: E402

from mmdense.evaluation.metrics import DepthMetric  # noqa: E402
from mmdense.models.losses import DepthGradientLoss  # noqa: E402
from mmdense.registry import MODELS  # noqa: E402

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


class PixelBackbone(nn.Module):
    """Maps of stride 1 that depend on the pixel and its right neighbour."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, (1, 2))

    def forward(self, x):
        return (self.conv(nn.functional.pad(x, (0, 1))),)


@pytest.fixture(autouse=True)
def backbone():
    MODELS.register_module(name='PixelBackbone', module=PixelBackbone)
    yield
    MODELS._module_dict.pop('PixelBackbone')


def make_model(test_cfg=None, normalize=True, **head):
    torch.manual_seed(0)
    norm = dict(mean=MEAN, std=STD) if normalize else {}
    cfg = dict(
        type='mmdense.DepthEstimator',
        data_preprocessor=dict(
            type='mmseg.SegDataPreProcessor',
            bgr_to_rgb=True,
            seg_pad_val=0,
            size_divisor=4,
            test_cfg=dict(size_divisor=4),
            **norm,
        ),
        backbone=dict(type='mmdense.PixelBackbone'),
        decode_head=dict(
            type='mmdense.UpProjDepthHead',
            in_channels=4,
            channels=[4],
            **head,
        ),
    )
    if test_cfg is not None:
        cfg['test_cfg'] = test_cfg
    model = MODELS.build(cfg)
    nn.init.normal_(model.decode_head.conv_depth.weight)
    return model


def make_sample(h=8, w=12, ori=None, **meta):
    sample = SegDataSample(
        metainfo=dict(ori_shape=ori or (h, w), img_shape=(h, w), **meta)
    )
    depth = 0.5 + 5 * torch.rand(1, h, w)
    sample.gt_depth_map = PixelData(data=depth)
    return sample


def predict(model, inputs, samples=None):
    model.eval()
    with torch.no_grad():
        return model.predict(inputs, samples)


def test_depth_estimator__image_passed_to_losses_is_the_original():
    model = make_model()
    images = [torch.randint(0, 256, (3, 8, 12), dtype=torch.uint8)] * 2
    data = model.data_preprocessor(
        dict(inputs=images, data_samples=[make_sample(), make_sample()]), True
    )
    got = model.unnormalized(data['inputs'])
    # RGB order after the preprocessor
    expected = images[0][[2, 1, 0]].float() / 255
    torch.testing.assert_close(got[0], expected, atol=1e-6, rtol=0)

    seen = []
    loss = model.decode_head.loss_decode[1]
    assert isinstance(loss, DepthGradientLoss)
    loss.register_forward_hook(
        lambda m, a, k, o: seen.append(k['image']), with_kwargs=True
    )
    losses = model.loss(data['inputs'], data['data_samples'])
    assert set(losses) == {'decode.loss_berhu', 'decode.loss_gradient'}
    assert torch.equal(seen[0], got)


def test_depth_estimator__unnormalized_without_statistics():
    model = make_model(normalize=False)
    inputs = torch.tensor([0.0, 51.0, 255.0, 300.0]).view(1, 1, 2, 2)
    got = model.unnormalized(inputs.expand(1, 3, 2, 2))
    assert got[0, 0].flatten().tolist() == pytest.approx([0, 0.2, 1, 1])


def test_depth_estimator__flip_averages_both_views():
    inputs = torch.randn(2, 3, 8, 12)
    plain = predict(make_model(), inputs)
    mirrored = predict(make_model(), inputs.flip(3))
    both = predict(make_model(dict(mode='whole', flip=True)), inputs)
    for a, b, c in zip(plain, mirrored, both):
        a, b = a.pred_depth_map.data, b.pred_depth_map.data.flip(2)
        assert (a - b).abs().max() > 1e-3
        torch.testing.assert_close(c.pred_depth_map.data, (a + b) / 2)


@pytest.mark.parametrize(
    ('cfg', 'word'),
    [
        (None, 'off'),
        (dict(mode='whole', flip=True), 'on'),
        (dict(mode='slide', crop_size=(8, 8), stride=(4, 4)), 'off'),
        (dict(mode='slide_flip', crop_size=(8, 8), stride=(4, 4)), 'on'),
    ],
)
def test_depth_estimator__protocol_line_has_the_flip_test(cfg, word):
    metric = DepthMetric()
    evaluator = Evaluator([metric])
    results = predict(
        make_model(cfg), torch.randn(1, 3, 8, 12), [make_sample()]
    )
    assert results[0].flip_test is (word == 'on')
    evaluator.process(results)
    assert evaluator.evaluate(1)['depth/images'] == 1
    assert metric.description.endswith(f'flip test {word}')


def test_depth_estimator__slide_really_slides():
    cfg = dict(mode='slide', crop_size=(8, 8), stride=(4, 4))
    model = make_model(cfg)
    inputs = torch.randn(1, 3, 8, 12)
    sample = make_sample()
    got = predict(model, inputs, [sample])[0].pred_depth_map.data
    parts = [
        predict(make_model(), inputs[..., x : x + 8])[0].pred_depth_map.data
        for x in (0, 4)
    ]
    total, count = torch.zeros(1, 8, 12), torch.zeros(1, 8, 12)
    for x, part in zip((0, 4), parts):
        total[..., x : x + 8] += part
        count[..., x : x + 8] += 1
    torch.testing.assert_close(got, total / count)
    whole = predict(make_model(), inputs)[0].pred_depth_map.data
    assert (got - whole).abs().max() > 1e-3


@pytest.mark.parametrize(
    'cfg',
    [
        dict(mode='whole'),
        dict(mode='slide', crop_size=(8, 8), stride=(4, 4), flip=True),
        dict(mode='slide_flip', crop_size=(8, 8), stride=(4, 4)),
    ],
)
def test_depth_estimator__modes_give_the_original_size(cfg):
    model = make_model(cfg)
    samples = [make_sample(ori=(16, 24)), make_sample(ori=(5, 7))]
    # a pipeline that crops leaves a pad_shape of an earlier size behind
    for sample in samples:
        sample.set_metainfo(dict(pad_shape=(99, 99)))
    got = predict(model, torch.randn(2, 3, 8, 12), samples)
    assert [tuple(s.pred_depth_map.data.shape) for s in got] == [
        (1, 16, 24),
        (1, 5, 7),
    ]


def test_depth_estimator__padding_is_cut_off():
    model = make_model().eval()
    image = torch.randint(0, 256, (3, 7, 10), dtype=torch.uint8)
    sample = make_sample(7, 10)
    with torch.no_grad():
        (got,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
        padded = torch.zeros(1, 3, 8, 12)
        rgb = image[[2, 1, 0]].float()
        padded[0, :, :7, :10] = (
            rgb - model.data_preprocessor.mean
        ) / model.data_preprocessor.std
        whole = model.predict(padded)[0].pred_depth_map.data
    torch.testing.assert_close(got.pred_depth_map.data, whole[:, :7, :10])


def test_depth_estimator__prediction_is_clamped_to_range():
    model = make_model(output='relu_min', min_depth=0.5, max_depth=2.0)
    nn.init.constant_(model.decode_head.conv_depth.bias, 1.0)
    got = predict(model, 20 * torch.randn(1, 3, 8, 12))[0]
    depth = got.pred_depth_map.data
    assert depth.min() >= 0.5
    assert depth.max() == 2.0


def test_depth_estimator__relative_prediction_is_never_clamped():
    model = make_model(
        output='relative',
        non_negative=False,
        max_depth=2.0,
        loss_decode=dict(type='mmdense.BerHuLoss'),
    )
    inputs = 20 * torch.randn(2, 3, 8, 12)
    got = torch.stack([s.pred_depth_map.data for s in predict(model, inputs)])
    with torch.no_grad():
        raw = model(inputs, mode='tensor')
    expected = nn.functional.interpolate(raw, (8, 12), mode='bilinear')
    torch.testing.assert_close(got, expected)
    assert got.min() < 0 and got.max() > 2


@pytest.mark.parametrize('mode', ['bilinear', 'bicubic'])
def test_depth_estimator__interpolation_to_the_original_sizes(mode):
    model = make_model(dict(interpolation=mode))
    inputs = torch.randn(3, 3, 8, 12)
    sizes = [(16, 24), (8, 12), (5, 7)]
    whole = predict(model, inputs)
    got = predict(model, inputs, [make_sample(ori=size) for size in sizes])
    for one, all_, size in zip(got, whole, sizes):
        expected = nn.functional.interpolate(
            all_.pred_depth_map.data[None], size, mode=mode
        ).clamp(0, 10)
        torch.testing.assert_close(one.pred_depth_map.data, expected[0])


@pytest.mark.parametrize(
    'direction,dims',
    [('horizontal', (2,)), ('vertical', (1,)), ('diagonal', (1, 2))],
)
def test_depth_estimator__mirrored_input_is_mirrored_back(direction, dims):
    model = make_model()
    inputs = torch.randn(1, 3, 8, 12)
    plain = predict(model, inputs)[0].pred_depth_map.data
    sample = make_sample(flip=True, flip_direction=direction)
    got = predict(model, inputs, [sample])[0].pred_depth_map.data
    assert torch.equal(got, plain.flip(dims))
    assert (got - plain).abs().max() > 1e-3


def test_depth_estimator__auxiliary_head_gets_the_image_too():
    model = make_model()
    model.auxiliary_head = nn.ModuleList([make_model().decode_head])
    losses = model.loss(torch.randn(2, 3, 8, 12), [make_sample()] * 2)
    assert losses['aux_0.loss_gradient'] == losses['decode.loss_gradient']


def test_depth_estimator__tensor_mode_gives_depth():
    out = make_model()(torch.randn(2, 3, 8, 12), mode='tensor')
    assert out.shape == (2, 1, 16, 24)


@pytest.mark.parametrize(
    'cfg,match',
    [
        (dict(mode='flip'), 'choose from'),
        (dict(mode='slide'), 'crop_size'),
        (dict(interpolation='nearest'), 'bicubic'),
        (dict(rescale=True), 'interpolation'),
        (dict(mode='slide_flip', crop_size=(8, 8)), 'stride'),
    ],
)
def test_depth_estimator__bad_test_cfg(cfg, match):
    with pytest.raises(ValueError, match=match):
        make_model(cfg)
