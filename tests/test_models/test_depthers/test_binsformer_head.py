import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from torch.utils._python_dispatch import TorchDispatchMode

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmseg.structures import SegDataSample  # noqa: E402

from mmdense.models.depthers.binsformer_decoder import (  # noqa: E402
    BinsDecoder,
    bin_centres,
    expected_depth,
)
from mmdense.models.depthers.binsformer_encoder import (  # noqa: E402
    DeformableAttention,
    DeformableEncoder,
    PixelDecoder,
    _pixel_centres,
    _pixel_size,
    sine_positions,
)
from mmdense.models.depthers.binsformer_head import (  # noqa: E402
    BinsFormerDepthHead,
    scene_loss,
)
from mmdense.models.losses import BerHuLoss, SILogLoss  # noqa: E402
from mmdense.registry import MODELS  # noqa: E402
from mmdense.utils.errors import UserValueError  # noqa: E402

WIDTHS = [6, 8, 10, 12]
HEAD = dict(
    type='mmdense.BinsFormerDepthHead',
    in_channels=WIDTHS,
    channels=16,
    num_queries=5,
    scene_classes=4,
    num_layers=4,
    aux_layers=[0, 2],
    encoder=dict(
        num_layers=2, num_heads=2, num_points=2, feedforward_channels=8
    ),
    decoder=dict(num_heads=2, feedforward_channels=8),
)


def build(seed=0, **settings):
    torch.manual_seed(seed)
    head = MODELS.build(dict(HEAD, **settings))
    head.init_weights()
    return head


def make_maps(b=2, h=70, w=93):
    g = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(b, c, -(-h // s), -(-w // s), generator=g)
        for c, s in zip(WIDTHS, (4, 8, 16, 32))
    )


def make_truth(b=2, h=70, w=93, labels=(1, 3), fill=None):
    g = torch.Generator().manual_seed(1)
    samples = []
    for i in range(b):
        depth = 0.5 + 5 * torch.rand(1, h, w, generator=g)
        depth[torch.rand(1, h, w, generator=g) < 0.2] = 0
        if fill is not None:
            depth.fill_(fill)
        meta = {} if labels is None else dict(scene_label=labels[i])
        sample = SegDataSample(metainfo=dict(img_path=f'{i}.png', **meta))
        sample.gt_depth_map = PixelData(data=depth)
        samples.append(sample)
    return samples


def loop_attention(attention, query, position, sizes):
    """Deformable attention on a single image, one number at a time."""
    heads, levels, points = (
        attention.num_heads,
        attention.num_levels,
        attention.num_points,
    )
    value = attention.value_proj(query).view(len(query), heads, -1)
    moved = query + position
    offsets = attention.sampling_offsets(moved)
    offsets = offsets.view(-1, heads, levels, points, 2)
    weights = attention.attention_weights(moved).view(len(query), heads, -1)
    weights = weights.softmax(-1).view(-1, heads, levels, points)
    centres = [
        ((x + 0.5) / w, (y + 0.5) / h)
        for h, w in sizes
        for y in range(h)
        for x in range(w)
    ]
    rows = []
    for q, (cx, cy) in enumerate(centres):
        parts = []
        for head in range(heads):
            total = torch.zeros(value.shape[2], dtype=value.dtype)
            start = 0
            for level, (h, w) in enumerate(sizes):
                for p in range(points):
                    dx, dy = offsets[q, head, level, p].tolist()
                    # offsets are in pixels of the level
                    x, y = cx * w + dx - 0.5, cy * h + dy - 0.5
                    x0, y0 = math.floor(x), math.floor(y)
                    for yy, xx in itertools.product(
                        (y0, y0 + 1), (x0, x0 + 1)
                    ):
                        if 0 <= yy < h and 0 <= xx < w:
                            near = (1 - abs(x - xx)) * (1 - abs(y - yy))
                            share = weights[q, head, level, p]
                            pixel = value[start + yy * w + xx, head]
                            total = total + share * near * pixel
                start += h * w
            parts.append(total)
        rows.append(torch.cat(parts))
    return attention.output_proj(torch.stack(rows)) + query


def test_deformable_attention__equals_loop():
    torch.manual_seed(0)
    sizes = [(4, 3), (2, 2), (1, 2)]
    attention = DeformableAttention(
        embed_dims=8,
        num_heads=2,
        num_levels=3,
        num_points=3,
        dropout=0.0,
        batch_first=True,
    ).double()
    torch.nn.init.normal_(attention.attention_weights.weight)
    torch.nn.init.normal_(attention.sampling_offsets.weight, std=0.3)
    query = torch.randn(2, 18, 8).double()
    position = torch.randn(1, 18, 8).double()
    with torch.no_grad():
        got = attention(
            query,
            query_pos=position,
            reference_points=torch.cat(
                [_pixel_centres(*size, None) for size in sizes]
            ),
            level_sizes=sizes,
            offset_scale=torch.stack(
                [_pixel_size(*size, None) for size in sizes]
            ),
        )
        for one, mine in zip(query, got):
            expected = loop_attention(attention, one, position[0], sizes)
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


def test_sine_positions__formula():
    got = sine_positions(3, 5, 8)
    assert got.shape == (15, 8)
    for y, x, i in itertools.product(range(3), range(5), range(2)):
        speed = 10000 ** (2 * i / 4)
        row = 2 * math.pi * (y + 1) / 3 / speed
        column = 2 * math.pi * (x + 1) / 5 / speed
        values = got[5 * y + x].tolist()
        assert values[2 * i] == pytest.approx(math.sin(row), abs=1e-6)
        assert values[2 * i + 1] == pytest.approx(math.cos(row), abs=1e-6)
        assert values[4 + 2 * i] == pytest.approx(math.sin(column), abs=1e-6)
        assert values[5 + 2 * i] == pytest.approx(math.cos(column), abs=1e-6)


def test_deformable_encoder__settings_of_the_paper():
    encoder = DeformableEncoder([4, 4, 4])
    assert len(encoder.layers) == 6
    for layer in encoder.layers:
        attention = layer.attentions[0]
        assert attention.num_levels == 3 and attention.num_points == 8
        assert attention.num_heads == 8 and attention.dropout.p == 0.1
        assert layer.operation_order == ('self_attn', 'norm', 'ffn', 'norm')
        assert layer.ffns[0].feedforward_channels == 1024
        drops = [
            m.p for m in layer.modules() if isinstance(m, torch.nn.Dropout)
        ]
        assert drops == [0.1, 0.1, 0.1]


def test_deformable_encoder__levels_exchange_information():
    torch.manual_seed(0)
    encoder = DeformableEncoder([4] * 3, 8, 1, 2, 2, 8, dropout=0.0).eval()
    maps = [torch.randn(2, 4, *size) for size in ((5, 6), (3, 3), (2, 2))]
    with torch.no_grad():
        before = encoder(maps)
        maps[2] = maps[2] + 1
        after = encoder(maps)
    assert [x.shape for x in before] == [
        (2, 8, 5, 6),
        (2, 8, 3, 3),
        (2, 8, 2, 2),
    ]
    for x, y in zip(before, after):
        assert (x - y).abs().max() > 1e-4
    with torch.no_grad():  # images do not
        assert torch.allclose(
            encoder([x[:1] for x in maps])[0], after[0][:1], atol=1e-5
        )


def test_pixel_decoder__sums_from_coarse_to_fine():
    torch.manual_seed(0)
    decoder = PixelDecoder([3, 4], 5).eval()
    coarse = torch.randn(1, 5, 2, 3)
    maps = [torch.randn(1, 3, 7, 9), torch.randn(1, 4, 4, 5)]

    def enlarged(x, like):
        return F.interpolate(x, like.shape[2:], mode='bilinear')

    with torch.no_grad():
        y = decoder.laterals[1](maps[1]) + enlarged(coarse, maps[1])
        y = decoder.fusions[1](y)
        y = decoder.laterals[0](maps[0]) + enlarged(y, maps[0])
        expected = decoder.fusions[0](y)
        torch.testing.assert_close(decoder(coarse, maps), expected)


@pytest.mark.parametrize(
    'start,steps,size', [('stride8', 2, 9), ('stride16', 3, 5)]
)
def test_pixel_start__where_e8_is_added(start, steps, size):
    head = build(pixel_start=start).eval()
    decoder, maps = head.pixel_decoder, make_maps()
    assert len(decoder.laterals) == steps
    sums, encoded = [], []
    decoder.fusions[-1].register_forward_hook(
        lambda m, args, out: sums.append(args[0])
    )
    head.encoder.register_forward_hook(
        lambda m, args, out: encoded.extend(out)
    )
    with torch.no_grad():
        head(maps)
        skip = decoder.laterals[-1](maps[steps - 1])
    assert skip.shape[2] == size
    e8 = F.interpolate(encoded[0], skip.shape[2:], mode='bilinear')
    torch.testing.assert_close(sums[0], skip + e8)


def test_bin_centres__uniform_widths_are_evenly_spaced():
    got = bin_centres(torch.full((2, 4), 3.3), 1.0, 9.0)
    torch.testing.assert_close(
        got, torch.tensor([[2.0, 4.0, 6.0, 8.0]]).expand(2, 4)
    )


def test_bin_centres__are_middles_of_adjacent_bins():
    logits = torch.randn(3, 6)
    got = bin_centres(logits, 0.5, 10.0)
    for row, centres in zip(logits.double(), got):
        widths = row.softmax(0) * 9.5
        edge = 0.5
        for width, centre in zip(widths.tolist(), centres.tolist()):
            assert centre == pytest.approx(edge + width / 2, abs=1e-5)
            edge += width
        assert edge == pytest.approx(10.0)
    extreme = bin_centres(torch.tensor([[6e4, -6e4, 0.0]]).half(), 0.5, 10.0)
    assert torch.isfinite(extreme).all() and extreme.dtype == torch.float32
    assert extreme.min() >= 0.5 and extreme.max() <= 10.0


def test_expected_depth__equals_loop():
    torch.manual_seed(0)
    features, embeddings = torch.randn(2, 3, 2, 4), torch.randn(2, 5, 3)
    centres = torch.rand(2, 5).cumsum(1)
    got = expected_depth(features, embeddings, centres)
    assert got.shape == (2, 1, 2, 4)
    for b, y, x in itertools.product(range(2), range(2), range(4)):
        logits = [e.dot(features[b, :, y, x]).item() for e in embeddings[b]]
        shares = [math.exp(v) for v in logits]
        mean = sum(p * c for p, c in zip(shares, centres[b].tolist())) / sum(
            shares
        )
        assert got[b, 0, y, x].item() == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(
    'order,layers,expected',
    [
        ('//', 9, [0, 0, 0, 1, 1, 1, 2, 2, 2]),
        ('%', 9, [0, 1, 2, 0, 1, 2, 0, 1, 2]),
        ('//', 4, [0, 0, 1, 2]),
        ('%', 4, [0, 1, 2, 0]),
    ],
)
def test_bins_decoder__level_order(order, layers, expected):
    decoder = BinsDecoder(
        8, 3, None, layers, num_heads=2, level_order=order
    ).eval()
    assert [decoder.level_of(i) for i in range(layers)] == expected
    maps = [torch.randn(1, 8, size, size) for size in (1, 2, 3)]
    seen = []
    for layer in decoder.layers:
        layer.attentions[0].register_forward_pre_hook(
            lambda m, args: seen.append(args[1].shape[1])
        )
    decoder(maps, [layers - 1])
    assert seen == [(1, 4, 9)[level] for level in expected]


def test_bins_decoder__settings_of_the_paper():
    head = BinsFormerDepthHead(WIDTHS)
    decoder = head.decoder
    assert len(decoder.layers) == 9
    assert decoder.query_content.weight.shape == (65, 256)
    assert decoder.to_scene[-1].out_features == 25
    layer = decoder.layers[0]
    assert layer.operation_order == (
        'cross_attn', 'norm', 'self_attn', 'norm', 'ffn', 'norm'
    )  # fmt: skip
    assert layer.ffns[0].feedforward_channels == 2048
    assert layer.attentions[0].num_heads == 8
    drops = [m.p for m in decoder.modules() if isinstance(m, torch.nn.Dropout)]
    assert not any(drops)
    assert head.aux_layers == (2, 5) and head.aux_weights == (0.25, 0.5)
    (loss,) = head.loss_decode
    assert isinstance(loss, SILogLoss) and loss.loss_weight == 10
    assert not hasattr(head, 'conv_depth')


def test_bins_decoder__first_query_is_the_scene():
    decoder = BinsDecoder(8, 3, 2, 3, num_heads=2)
    seen = {}
    decoder.norm.register_forward_hook(
        lambda m, args, out: seen.update(queries=out)
    )
    for name in ('to_scene', 'to_width', 'to_embedding'):
        getattr(decoder, name).register_forward_hook(
            lambda m, args, out, name=name: seen.update({name: args[0]})
        )
    decoder([torch.randn(2, 8, n, n) for n in (1, 2, 3)], [2])
    assert torch.equal(seen['to_scene'], seen['queries'][:, 0])
    assert torch.equal(seen['to_width'], seen['queries'][:, 1:])
    assert torch.equal(seen['to_embedding'], seen['queries'][:, 1:])


def test_bins_decoder__knows_where_a_pixel_is():
    torch.manual_seed(0)
    decoder = BinsDecoder(8, 3, None, 3, num_heads=2).eval()
    maps = [torch.randn(1, 8, n, n) for n in (1, 2, 3)]
    with torch.no_grad():
        (before,) = decoder(maps, [2])
        maps[2] = maps[2].flip(3)
        (after,) = decoder(maps, [2])
    assert (before.embeddings - after.embeddings).abs().max() > 1e-3


def test_binsformer__queries_attend_from_coarse_to_fine():
    head, seen = build(), []
    head.decoder.register_forward_pre_hook(
        lambda m, args: seen.extend(tuple(x.shape[2:]) for x in args[0])
    )
    head(make_maps())
    assert seen == [(3, 3), (5, 6), (9, 12)]


def test_bins_decoder__layers_need_no_later_ones():
    """Auxiliary outputs are those of a decoder that ends there."""
    torch.manual_seed(0)
    decoder = BinsDecoder(8, 3, 2, 4, num_heads=2, level_order='%').eval()
    maps = [torch.randn(2, 8, size, size) for size in (1, 2, 3)]
    with torch.no_grad():
        first, last = decoder(maps, [1, 3])
        del decoder.layers[2:]
        (alone,) = decoder(maps, [1])
    for a, b in zip(first, alone):
        assert torch.equal(a, b)
    assert first.widths.shape == (2, 3)
    assert first.embeddings.shape == (2, 3, 8)
    assert first.scene.shape == (2, 2)
    assert not torch.allclose(first.widths, last.widths)


@pytest.mark.parametrize('size', [(64, 96), (70, 93), (33, 40)])
@pytest.mark.parametrize('pixel_start', ['stride8', 'stride16'])
@pytest.mark.parametrize('order', ['//', '%'])
def test_binsformer__depth_in_range(size, pixel_start, order):
    head = build(
        pixel_start=pixel_start, level_order=order, min_depth=0.5, max_depth=7
    ).eval()
    with torch.no_grad():
        torch.nn.init.normal_(head.decoder.to_width.weight, std=3.0)
        torch.nn.init.normal_(head.decoder.to_embedding[-1].weight, std=3.0)
        depth = head(make_maps(2, *size))
        full = head.predict_by_feat(depth, [dict(img_shape=size)])
    assert depth.shape == (2, 1, -(-size[0] // 4), -(-size[1] // 4))
    assert depth.dtype == torch.float32
    assert full.shape == (2, 1, *size)
    assert depth.min() >= 0.5 and depth.max() <= 7 + 1e-5
    assert depth.max() - depth.min() > 0.1


def test_binsformer__loss_is_the_sum_by_hand():
    head = build(scene_loss_weight=0.3, aux_weights=[0.125, 0.75]).eval()
    maps, truth = make_maps(), make_truth(labels=(2, -1))
    target = torch.stack([s.gt_depth_map.data for s in truth])
    with torch.no_grad():
        losses = head.loss(maps, truth)
        features, outputs = head.decode(maps, (0, 2))
        expected = {}
        for prefix, weight, output in zip(
            ('layer0.', 'layer2.', ''), (0.125, 0.75, 1.0), outputs
        ):
            widths = output.widths.softmax(1) * (10.0 - 1e-3)
            centres = 1e-3 + widths.cumsum(1) - widths / 2
            share = torch.einsum(
                'bnc,bchw->bnhw', output.embeddings, features
            ).softmax(1)
            depth = (share * centres[:, :, None, None]).sum(1, keepdim=True)
            depth = F.interpolate(depth, (70, 93), mode='bilinear')
            loss = 10 * SILogLoss()(depth, target)
            expected[f'{prefix}loss_silog'] = weight * loss
            scene = -output.scene[0].log_softmax(0)[2]
            expected[f'{prefix}loss_scene'] = 0.3 * scene
        final = F.interpolate(head(maps), (70, 93), mode='bilinear')
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=name)
    torch.testing.assert_close(final, depth)


def test_binsformer__other_losses_and_valid_range():
    head = build(
        scene_classes=None,
        valid_range=(1.0, 3.0),
        aux_layers=[],
        aux_weights=[],
        loss_decode=[
            dict(type='mmdense.BerHuLoss'),
            dict(type='mmdense.DepthGradientLoss', mode='edge_aware'),
        ],
    ).eval()
    maps, truth = make_maps(), make_truth(labels=None)
    assert head.needs_image
    target = torch.stack([s.gt_depth_map.data for s in truth])
    with torch.no_grad():
        losses = head.loss(maps, truth, image=torch.rand(2, 3, 70, 93))
        pred = F.interpolate(head(maps), (70, 93), mode='bilinear')
    assert set(losses) == {'loss_berhu', 'loss_gradient'}
    mask = (target > 1) & (target < 3)
    torch.testing.assert_close(
        losses['loss_berhu'], BerHuLoss()(pred, target, mask)
    )


def test_scene_loss__unknown_scenes_do_not_count():
    logits = torch.randn(3, 4).requires_grad_()
    got = scene_loss(logits, torch.tensor([2, -1, 0]))
    rows = logits.detach().log_softmax(1)
    assert got.item() == pytest.approx(
        -(rows[0, 2] + rows[2, 0]).item() / 2, rel=1e-5
    )
    none = scene_loss(logits, torch.tensor([-1, -1, -1]))
    none.backward()
    assert none.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize('labels', [None, (-1, -1), (None, -1)])
def test_binsformer__no_scene_label_gives_zero(labels):
    head = build()
    losses = head.loss(make_maps(), make_truth(labels=labels))
    sum(losses.values()).backward()
    scenes = [v for k, v in losses.items() if k.endswith('loss_scene')]
    assert len(scenes) == 3 and not any(scenes)
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize('label', [4, -2])
def test_binsformer__scene_label_out_of_range_is_named(label):
    with pytest.raises(UserValueError, match=f'1.png: scene_label {label}'):
        build().loss(make_maps(), make_truth(labels=(0, label)))


@pytest.mark.parametrize('scene_classes', [4, None])
@pytest.mark.parametrize('pixel_start', ['stride8', 'stride16'])
@pytest.mark.parametrize('order', ['//', '%'])
def test_binsformer__gradient_reaches_every_parameter(
    scene_classes, pixel_start, order
):
    head = build(
        scene_classes=scene_classes, pixel_start=pixel_start, level_order=order
    )
    for layer in head.encoder.layers:  # start at zero, and hide what they see
        torch.nn.init.normal_(layer.attentions[0].attention_weights.weight)
        torch.nn.init.normal_(layer.attentions[0].sampling_offsets.weight)
    sum(head.loss(make_maps(), make_truth()).values()).backward()
    without = [
        name
        for name, p in head.named_parameters()
        if p.grad is None or not p.grad.any()
    ]
    assert without == []
    scene = [n for n, _ in head.named_parameters() if 'scene' in n]
    assert bool(scene) == (scene_classes is not None)


def test_binsformer__no_valid_truth_gives_zero_gradient():
    head = build()
    truth = make_truth(fill=float('nan'), labels=None)
    total = sum(head.loss(make_maps(), truth).values())
    total.backward()
    assert total.item() == 0
    assert not any(p.grad.any() for p in head.parameters())


def _cpu_has_fp16_autocast():
    return tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 4)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_binsformer__autocast(dtype):
    if dtype == torch.float16 and not _cpu_has_fp16_autocast():
        pytest.skip('this torch has no float16 autocast on the CPU')
    head = build().eval()
    maps, truth = make_maps(h=40, w=40), make_truth(h=40, w=40)
    exact = head.loss(maps, truth)
    with torch.autocast('cpu', dtype=dtype):
        rough = head.loss(maps, truth)
        depth = head(maps)
    assert depth.dtype == torch.float32
    for name, value in exact.items():
        assert rough[name].dtype == torch.float32
        torch.testing.assert_close(rough[name], value, rtol=0.05, atol=0.02)
    sum(rough.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


class SyncingOps(TorchDispatchMode):
    """Collects operations that would make the host wait for the device."""

    NAMES = ('_local_scalar_dense', 'nonzero', 'masked_select')

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in self.NAMES):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_binsformer__training_step_does_not_wait_for_the_device():
    head, maps, truth = build(), make_maps(), make_truth()
    with SyncingOps() as ops:
        sum(head.loss(maps, truth).values()).backward()
    assert ops.seen == []


def test_binsformer__weights_start_as_said():
    head = build(channels=64)
    attention = head.encoder.layers[0].attentions[0]
    assert not attention.sampling_offsets.weight.any()
    assert attention.sampling_offsets.bias.abs().max() == 2
    weight = head.decoder.to_embedding[0].weight
    assert weight.abs().max() <= math.sqrt(6 / 128)
    assert weight.std().item() == pytest.approx(math.sqrt(2 / 128), rel=0.1)
    assert head.decoder.query_content.weight.std() > 0.7
    again = build(channels=64)
    for a, b in zip(head.parameters(), again.parameters()):
        assert torch.equal(a, b)


def test_binsformer__in_a_depth_estimator():
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='mmdense.DepthEstimator',
            backbone=dict(type='mmseg.ResNet', depth=18, base_channels=2),
            decode_head=dict(HEAD, in_channels=[2, 4, 8, 16], max_depth=6.0),
            test_cfg=dict(mode='whole', flip=True),
        )
    )
    model.init_weights()
    inputs, truth = torch.randn(2, 3, 70, 93), make_truth(labels=(0, -1))
    losses = model(inputs, truth, mode='loss')
    assert {k for k in losses if 'loss_scene' in k} == {
        'decode.layer0.loss_scene',
        'decode.layer2.loss_scene',
        'decode.loss_scene',
    }
    total, logged = model.parse_losses(losses)
    assert total.item() == pytest.approx(sum(losses.values()).item())
    assert total > losses['decode.loss_silog'] > 0
    for sample in truth:
        sample.set_metainfo(
            dict(img_shape=(70, 93), pad_shape=(70, 93), ori_shape=(35, 50))
        )
    model.eval()
    with torch.no_grad():
        results = model(inputs, truth, mode='predict')
    for sample in results:
        depth = sample.pred_depth_map.data
        assert depth.shape == (1, 35, 50)
        assert depth.min() >= 1e-3 and depth.max() <= 6


@pytest.mark.slow
def test_binsformer__learns_a_depth_map():
    head = build(scene_classes=None).train()
    maps, truth = make_maps(b=2, h=32, w=32), make_truth(h=32, w=32)
    ramp = torch.linspace(1, 8, 32).expand(1, 32, 32)
    for sample, depth in zip(truth, (ramp, ramp.transpose(1, 2))):
        sample.gt_depth_map.data = depth.contiguous()
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    for step in range(150):
        optimizer.zero_grad()
        losses = head.loss(maps, truth)
        sum(losses.values()).backward()
        optimizer.step()
        if step == 0:
            start = losses['loss_silog'].item()
    assert losses['loss_silog'].item() < 0.3 * start


@pytest.mark.parametrize(
    'setting,match',
    [
        (dict(in_channels=[8, 8, 8]), 'strides 4, 8, 16 and 32'),
        (dict(channels=18), 'multiple of 4'),
        (dict(level_order='/'), 'level_order'),
        (dict(pixel_start='e8'), 'stride16'),
        (dict(num_layers=2, aux_layers=[], aux_weights=[]), 'at least 3'),
        (dict(aux_layers=[2, 3]), 'aux_layers'),
        (dict(aux_layers=[2, 0]), 'ascend'),
        (dict(aux_weights=[1.0]), 'aux_weights'),
        (dict(num_queries=0), 'num_queries'),
        (dict(scene_classes=0), 'scene_classes'),
        (dict(output='relative'), 'min_depth to max_depth'),
        (dict(min_depth=5.0, max_depth=2.0), 'min_depth'),
    ],
)
def test_binsformer__bad_options_are_named(setting, match):
    with pytest.raises(ValueError, match=match):
        MODELS.build(dict(HEAD, **setting))
