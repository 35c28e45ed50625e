import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmseg.structures import SegDataSample  # noqa: E402

from mmdense.models.backbones import (  # noqa: E402
    HybridVisionTransformer,
    VisionTransformer,
)
from mmdense.models.depthers import DPTDepthHead  # noqa: E402
from mmdense.registry import MODELS  # noqa: E402

SILOG = dict(type='mmdense.SILogLoss')
KITTI = dict(scale=6.016e-5, shift=5.79e-3, max_depth=80.0)
ARCH = dict(embed_dims=12, num_layers=4, num_heads=2, feedforward_channels=24)
OPTIONS = dict(final_norm=False, interpolate_mode='bilinear', img_size=64)
VIT = dict(
    type='mmdense.VisionTransformer',
    arch=ARCH,
    out_type='tokens',
    out_indices=[0, 1, 2, 3],
    **OPTIONS,
)
BACKBONES = {
    'vit': (VIT, dict(in_channels=[12] * 4)),
    'distilled': (
        dict(
            type='mmdense.DistilledVisionTransformer',
            arch=ARCH,
            out_type='tokens',
            out_indices=[0, 1, 2, 3],
            **OPTIONS,
        ),
        dict(in_channels=[12] * 4, readout='add'),
    ),
    'no-class-token': (
        dict(VIT, with_cls_token=False),
        dict(in_channels=[12] * 4, readout='ignore'),
    ),
    'hybrid': (
        dict(
            type='mmdense.HybridVisionTransformer',
            arch=ARCH,
            layers=(1, 1, 1),
            out_indices=('stem0', 'stem1', 2, 3),
            **OPTIONS,
        ),
        dict(
            in_channels=[256, 512, 12, 12],
            levels=['map', 'map', 'tokens', 'tokens'],
        ),
    ),
    'swin': (
        dict(
            type='mmdense.SwinTransformer',
            arch=dict(
                embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]
            ),
            img_size=64,
            window_size=2,
            out_indices=(0, 1, 2, 3),
        ),
        dict(in_channels=[8, 16, 32, 64], levels=['map'] * 4),
    ),
    'resnet': (
        dict(type='mmpretrain.ResNet', depth=18, out_indices=(0, 1, 2, 3)),
        dict(
            in_channels=[64, 128, 256, 512],
            levels=['map'] * 4,
            with_project=False,
        ),
    ),
}


def make_model(name='vit', seed=0, **head):
    torch.manual_seed(seed)
    backbone, options = BACKBONES[name]
    if 'tokens' in options.get('levels', ['tokens']):
        widths = [4, 6, 8, 10]
        for i, kind in enumerate(options.get('levels', ())):
            if kind == 'map':
                widths[i] = options['in_channels'][i]
        options = dict(options, reassemble_channels=widths)
    cfg = dict(
        type='mmdense.DepthEstimator',
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor'),
        backbone=backbone,
        decode_head=dict(
            type='mmdense.DPTDepthHead',
            channels=8,
            hidden_channels=6,
            loss_decode=SILOG,
            **dict(options, **head),
        ),
    )
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def make_samples(b=2, h=64, w=96):
    g = torch.Generator().manual_seed(1)
    samples = []
    for _ in range(b):
        sample = SegDataSample(
            metainfo=dict(img_shape=(h, w), ori_shape=(h, w))
        )
        depth = 0.5 + 5 * torch.rand(1, h, w, generator=g)
        depth[torch.rand(1, h, w, generator=g) < 0.2] = 0
        sample.gt_depth_map = PixelData(data=depth)
        samples.append(sample)
    return samples


@pytest.mark.parametrize('bf16', [False, True])
@pytest.mark.parametrize('name', BACKBONES)
def test_dpt_depth_head__trains_on_every_backbone(name, bf16):
    model = make_model(name, output='relu_min', min_depth=1e-3)
    inputs = torch.randn(2, 3, 64, 96)
    with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
        depth = model(inputs, mode='tensor')
        losses = model.loss(inputs, make_samples())
    assert depth.shape == (2, 1, 64, 96) and depth.dtype == torch.float32
    losses['decode.loss_silog'].backward()
    without = [
        key
        for key, p in model.named_parameters()
        if p.grad is None or not torch.isfinite(p.grad).all()
    ]
    assert without == []


def test_dpt_depth_head__gradients_of_a_model_are_right_in_float32():
    """On CPU torch 2.1 loses gradients of the readout if one is careless."""
    grads = []
    inputs = torch.randn(2, 3, 64, 96)
    for dtype in (torch.float64, torch.float32):
        model = make_model(output='relative', non_negative=False).to(dtype)
        depth = model(inputs.to(dtype), mode='tensor')
        weight = torch.linspace(-1, 2, depth.numel(), dtype=dtype)
        (depth * weight.view_as(depth)).sum().backward()
        grads.append({k: p.grad for k, p in model.named_parameters()})
    for key, want in grads[0].items():
        got = grads[1][key].double()
        error = (got - want).abs().max() / want.abs().max()
        assert error < 1e-3, key


def test_dpt_depth_head__layers_after_the_decoder():
    head = make_model(output='relative').decode_head.double()
    fused = torch.randn(2, 8, 4, 5, dtype=torch.float64)
    head.decoder.forward = lambda taps: [None, None, None, fused]
    x = F.conv2d(fused, head.conv_half.weight, head.conv_half.bias, padding=1)
    assert x.shape[1] == 4
    x = F.interpolate(x, (8, 10), mode='bilinear', align_corners=True)
    x = F.conv2d(x, head.conv_full.weight, head.conv_full.bias, padding=1)
    x = F.conv2d(x.relu(), head.conv_depth.weight, head.conv_depth.bias)
    torch.testing.assert_close(head([None] * 4), x.relu())


def test_dpt_depth_head__inverse_affine_of_the_relative_output():
    relative = make_model(output='relative').eval()
    metric = make_model(output='inverse_affine', **KITTI).eval()
    metric.load_state_dict(relative.state_dict())
    inputs = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        x = relative(inputs, mode='tensor')
        assert relative.decode_head.is_relative
        assert x.min() >= 0
        got = metric(inputs, mode='tensor')
        clamped = metric.predict(inputs)[0].pred_depth_map.data
    expected = 1 / (6.016e-5 * x + 5.79e-3)
    torch.testing.assert_close(got, expected)
    assert got.max() > 80 and clamped.max() == 80


def test_dpt_depth_head__learned_affine_gets_a_gradient():
    model = make_model(output='inverse_affine', learn_affine=True, **KITTI)
    losses = model.loss(torch.randn(2, 3, 64, 96), make_samples())
    losses['decode.loss_silog'].backward()
    output = model.decode_head.depth_output
    assert output.log_scale.grad != 0 and output.rel_shift.grad != 0


@pytest.mark.parametrize('name', ['vit', 'hybrid'])
@pytest.mark.parametrize('size', [(48, 80), (16, 16), (80, 64)])
def test_dpt_depth_head__grids_that_are_odd(name, size):
    model = make_model(name, output='relative').eval()
    inputs = torch.randn(2, 3, *size)
    samples = make_samples(2, *size)
    samples[1].set_metainfo(dict(ori_shape=(37, 51)))
    with torch.no_grad():
        results = model.predict(inputs, samples)
    shapes = [tuple(r.pred_depth_map.data.shape) for r in results]
    assert shapes == [(1, *size), (1, 37, 51)]


def test_dpt_depth_head__batch_equals_single_images():
    model = make_model('hybrid', output='relative').eval()
    inputs = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        both = model(inputs, mode='tensor')
        each = torch.cat([model(x[None], mode='tensor') for x in inputs])
    torch.testing.assert_close(both, each, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('output', ['relative', 'relu_min'])
def test_dpt_depth_head__start_is_alive(output):
    options = dict(output=output, min_depth=1e-3, max_depth=10.0)
    floor = 1e-3 if output == 'relu_min' else 0.0
    for seed in range(20):
        model = make_model(seed=seed, **options)
        with torch.no_grad():
            got = model(torch.randn(2, 3, 64, 96), mode='tensor')
        assert (got > floor).float().mean() > 0.99, seed


def test_dpt_depth_head__default_loss_of_relative_output_is_ssi():
    loss = pytest.importorskip('mmdense.models.losses.ssi_loss')
    head = DPTDepthHead([12] * 4, channels=8)
    assert isinstance(head.loss_decode[0], loss.SSILoss)
    assert head.output == 'relative'


def full_model(family, taps, widths, width):
    options = dict(
        arch='large' if family == 'large' else 'base',
        out_indices=taps,
        img_size=384,
        final_norm=False,
    )
    channels, levels = [width] * 4, ['tokens'] * 4
    with torch.device('meta'):
        if family == 'hybrid':
            backbone = HybridVisionTransformer(**options)
            channels[:2], levels[:2] = widths[:2], ['map'] * 2
        else:
            backbone = VisionTransformer(out_type='tokens', **options)
        head = DPTDepthHead(
            channels,
            levels=levels,
            reassemble_channels=widths,
            loss_decode=SILOG,
        )
    return backbone, head


@pytest.mark.parametrize(
    'family,taps,widths,width,published',
    [
        ('base', [2, 5, 8, 11], [96, 192, 384, 768], 768, 112),
        ('large', [5, 11, 17, 23], [256, 512, 1024, 1024], 1024, 343),
        (
            'hybrid',
            ['stem0', 'stem1', 8, 11],
            [256, 512, 768, 768],
            768,
            123,
        ),
    ],
)
def test_dpt_depth_head__published_number_of_parameters(
    family, taps, widths, width, published
):
    models = full_model(family, taps, widths, width)
    count = sum(p.numel() for m in models for p in m.parameters())
    # counted in the paper, never used: final norm and classifier of the ViT,
    # a residual unit of the coarsest fusion block
    unused = 2 * width + 1000 * (width + 1) + 2 * 256 * (256 * 9 + 1)
    assert (count + unused) / 1e6 == pytest.approx(published, rel=4e-3)
