import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from torch import nn

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmseg.structures import SegDataSample  # noqa: E402

from mmdense.models.depthers import (  # noqa: E402
    BaseDepthHead,
    UnpoolConv2d,
    UPerDepthHead,
    UpProjBlock,
    UpProjDepthHead,
)
from mmdense.models.losses import BerHuLoss, DepthGradientLoss  # noqa: E402
from mmdense.registry import MODELS  # noqa: E402

UPPROJ = dict(
    type='mmdense.UpProjDepthHead', in_channels=12, channels=[8, 8, 6, 4]
)
DECONV = dict(UPPROJ, block='deconv')
UPER = dict(
    type='mmdense.UPerDepthHead',
    in_channels=[12] * 4,
    channels=8,
    pool_scales=(1, 2),
)
HEADS = pytest.mark.parametrize(
    'cfg', [UPPROJ, DECONV, UPER], ids=['upproj', 'deconv', 'uper']
)


def make_features(cfg, b=2, h=4, w=6):
    g = torch.Generator().manual_seed(0)
    if cfg['type'].endswith('UpProjDepthHead'):
        return (torch.randn(b, 12, h, w, generator=g),)
    sizes = [(h * 4, w * 4), (h * 2, w * 2), (h, w), (h // 2, w // 2)]
    return tuple(torch.randn(b, 12, *s, generator=g) for s in sizes)


def make_truth(b=2, h=64, w=96, fill=None):
    g = torch.Generator().manual_seed(1)
    samples = []
    for _ in range(b):
        depth = 0.5 + 5 * torch.rand(1, h, w, generator=g)
        depth[torch.rand(1, h, w, generator=g) < 0.2] = 0
        if fill is not None:
            depth.fill_(fill)
        sample = SegDataSample()
        sample.gt_depth_map = PixelData(data=depth)
        samples.append(sample)
    return samples


def zero_unpool(x):
    b, c, h, w = x.shape
    out = x.new_zeros(b, c, 2 * h, 2 * w)
    out[:, :, ::2, ::2] = x
    return out


@pytest.mark.parametrize('kernel', [1, 3, 5])
@pytest.mark.parametrize('size', [(1, 1), (3, 4), (5, 2)])
@pytest.mark.parametrize('bias', [True, False])
def test_unpool_conv__equals_unpool_then_conv(kernel, size, bias):
    torch.manual_seed(0)
    fast = UnpoolConv2d(3, 4, kernel, bias=bias).double()
    x = torch.randn(2, 3, *size, dtype=torch.double, requires_grad=True)
    weight = torch.randn(2, 4, 2 * size[0], 2 * size[1], dtype=torch.double)
    plain = F.conv2d(
        zero_unpool(x), fast.weight, fast.bias, padding=kernel // 2
    )
    got = fast(x)
    torch.testing.assert_close(got, plain)
    params = [x, *fast.parameters()]
    for a, b in zip(
        torch.autograd.grad((got * weight).sum(), params),
        torch.autograd.grad((plain * weight).sum(), params),
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('training', [True, False])
def test_up_proj_block__equals_two_branches(training):
    torch.manual_seed(0)
    block = UpProjBlock(5, 3, dict(type='BN')).double().train(training)
    for norm in (block.norm5, block.norm3):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, 5, 3, 4, dtype=torch.double)

    def norm(y, layer, rows=slice(None)):
        return F.batch_norm(
            y,
            layer.running_mean[rows].clone(),
            layer.running_var[rows].clone(),
            layer.weight[rows],
            layer.bias[rows],
            training,
        )

    u = zero_unpool(x)
    first, second = slice(0, 3), slice(3, 6)
    weight = block.conv5.weight
    a = norm(F.conv2d(u, weight[first], padding=2), block.norm5, first)
    a = norm(F.conv2d(a.relu(), block.conv3.weight, padding=1), block.norm3)
    b = norm(F.conv2d(u, weight[second], padding=2), block.norm5, second)
    torch.testing.assert_close(block(x), (a + b).relu())


@HEADS
@pytest.mark.parametrize('bf16', [False, True])
def test_depth_heads__forward_backward(cfg, bf16):
    torch.manual_seed(0)
    head = MODELS.build(cfg)
    head.init_weights()
    image = torch.rand(2, 3, 64, 96)
    features = make_features(cfg)
    for feature in features:
        feature.requires_grad_()
    with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
        depth = head(features)
        losses = head.loss(features, make_truth(), None, image=image)
    scale = 16 if 'UpProj' in cfg['type'] else 4
    assert depth.shape == (2, 1, 4 * scale, 6 * scale)
    assert depth.dtype == torch.float32
    assert depth.min() >= 0 and depth.max() <= 10
    assert set(losses) == {'loss_berhu', 'loss_gradient'}
    sum(losses.values()).backward()
    for tensor in (*features, *head.parameters()):
        assert torch.isfinite(tensor.grad).all()
    assert features[0].grad.abs().sum() > 0
    assert head.conv_depth.weight.grad.abs().sum() > 0


@HEADS
def test_depth_heads__bf16_close_to_fp32(cfg):
    torch.manual_seed(0)
    head = MODELS.build(cfg).eval()
    features = make_features(cfg)
    with torch.no_grad():
        exact = head(features)
        with torch.autocast('cpu', torch.bfloat16):
            rough = head(features)
    assert (exact - rough).abs().max() < 0.2
    assert (exact - exact.mean()).abs().max() > 0.01


@HEADS
def test_depth_heads__loss_is_that_of_the_resized_prediction(cfg):
    torch.manual_seed(0)
    head = MODELS.build(cfg).eval()
    features, truth = make_features(cfg), make_truth(h=60, w=100)
    image = torch.rand(2, 3, 60, 100)
    with torch.no_grad():
        got = head.loss(features, truth, None, image=image)
        pred = F.interpolate(
            head(features), (60, 100), mode='bilinear', align_corners=False
        )
    target = torch.stack([s.gt_depth_map.data for s in truth])
    mask = target > 0
    assert got['loss_berhu'] == BerHuLoss()(pred, target, mask)
    assert got['loss_gradient'] == DepthGradientLoss()(
        pred, target, mask, image
    )


@HEADS
def test_depth_heads__no_valid_truth_gives_zero_gradient(cfg):
    head = MODELS.build(cfg)
    image = torch.rand(2, 3, 64, 96)
    losses = head.loss(
        make_features(cfg), make_truth(fill=float('nan')), None, image=image
    )
    total = sum(losses.values())
    total.backward()
    assert total.item() == 0
    assert all((p.grad == 0).all() for p in head.parameters())


@HEADS
@pytest.mark.parametrize('init_depth', [0.3, 2.7, 9.0])
def test_depth_heads__start_at_init_depth(cfg, init_depth):
    head = MODELS.build(dict(cfg, init_depth=init_depth))
    head.init_weights()
    nn.init.zeros_(head.conv_depth.weight)
    depth = head(make_features(cfg))
    torch.testing.assert_close(depth, torch.full_like(depth, init_depth))


def test_base_depth_head__valid_range_is_strict():
    head = MODELS.build(
        dict(
            UPPROJ,
            valid_range=(1.0, 3.0),
            loss_decode=dict(type='mmdense.BerHuLoss'),
        )
    ).eval()
    features, truth = make_features(UPPROJ), make_truth()
    target = torch.stack([s.gt_depth_map.data for s in truth])
    with torch.no_grad():
        got = head.loss(features, truth, None)['loss_berhu']
        pred = head(features)
    mask = (target > 1) & (target < 3)
    assert got == BerHuLoss()(pred, target, mask)
    assert got != BerHuLoss()(pred, target)
    assert not head.needs_image


def test_base_depth_head__losses_of_one_name_add_up():
    berhu = dict(type='mmdense.BerHuLoss')
    once = MODELS.build(dict(UPPROJ, loss_decode=berhu)).eval()
    twice = MODELS.build(dict(UPPROJ, loss_decode=[berhu, berhu])).eval()
    twice.load_state_dict(once.state_dict())
    features, truth = make_features(UPPROJ), make_truth()
    a = once.loss(features, truth, None)['loss_berhu']
    b = twice.loss(features, truth, None)['loss_berhu']
    torch.testing.assert_close(b, 2 * a)


def test_up_proj_depth_head__published_widths():
    head = UpProjDepthHead(in_channels=16)
    outs = [block.conv3.out_channels for block in head.blocks]
    assert outs == [512, 256, 128, 64]
    assert head.conv_depth.kernel_size == (3, 3)
    assert not hasattr(head, 'conv_seg')


def test_uper_depth_head__fuses_like_mmseg():
    from mmseg.models.decode_heads import UPerHead

    torch.manual_seed(0)
    head = MODELS.build(UPER).eval()
    stock = UPerHead(
        in_channels=[12] * 4,
        in_index=[0, 1, 2, 3],
        channels=8,
        pool_scales=(1, 2),
        num_classes=3,
        norm_cfg=dict(type='BN'),
    ).eval()
    missing = stock.load_state_dict(head.state_dict(), strict=False)
    assert set(missing.missing_keys) == {'conv_seg.weight', 'conv_seg.bias'}
    features = make_features(UPER)
    with torch.no_grad():
        expected = stock._forward_feature(features)
        torch.testing.assert_close(head._forward_feature(features), expected)


def test_uper_depth_head__after_feature2pyramid_of_plain_vit_maps():
    neck = MODELS.build(
        dict(
            type='mmseg.Feature2Pyramid',
            embed_dim=12,
            norm_cfg=dict(type='BN'),
        )
    )
    head = MODELS.build(UPER)
    # permuted like the maps of a ViT
    maps = tuple(
        torch.randn(2, 4, 6, 12, requires_grad=True) for _ in range(4)
    )
    depth = head(neck([m.permute(0, 3, 1, 2) for m in maps]))
    assert depth.shape == (2, 1, 16, 24)
    depth.sum().backward()
    for m in maps:
        assert torch.isfinite(m.grad).all()
        assert m.grad.abs().max() < 1e6


@pytest.mark.parametrize(
    'change,match',
    [
        (dict(block='bilinear'), 'upproj'),
        (dict(channels=[]), 'empty'),
        (dict(min_depth=3, max_depth=2), 'min_depth < max_depth'),
        (dict(output='exp'), 'sigmoid_range'),
        (dict(output='inverse_affine', scale=1.0), 'shift'),
        (dict(scale=1.0, shift=0.0), 'inverse_affine'),
        (dict(output='relative', init_depth=2.0), 'no unit'),
        (dict(init_depth=10.0), 'init_depth'),
    ],
)
def test_depth_heads__bad_arguments(change, match):
    with pytest.raises(ValueError, match=match):
        MODELS.build(dict(UPPROJ, **change))


def test_depth_heads__missing_truth_is_named():
    head = MODELS.build(UPPROJ)
    sample = SegDataSample(metainfo=dict(img_path='a.jpg'))
    with pytest.raises(KeyError, match=r'a\.jpg.*LoadDepth'):
        head.loss(make_features(UPPROJ), [sample], None)


def test_depth_heads__different_truth_sizes_are_named():
    head = MODELS.build(UPPROJ)
    samples = make_truth(1, 64, 96) + make_truth(1, 32, 96)
    with pytest.raises(ValueError, match='different shapes'):
        head.loss(make_features(UPPROJ), samples, None)


def test_depth_heads__are_small_subclasses():
    assert issubclass(UPerDepthHead, BaseDepthHead)
    assert issubclass(UpProjDepthHead, BaseDepthHead)
