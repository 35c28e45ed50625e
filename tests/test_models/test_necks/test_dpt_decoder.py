import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdense.models.backbones.tokens import Tokens
from mmdense.models.necks import DPTDecoder
from mmdense.registry import MODELS

TOKENS = ('tokens',) * 4
MAPS = ('map',) * 4
HYBRID = ('map', 'map', 'tokens', 'tokens')
CHANNELS = dict(tokens=[12] * 4, map=[4, 6, 8, 10], hybrid=[4, 6, 12, 12])


def make_inputs(levels, h=4, w=6, b=2, patch=16, dist=False):
    """Taps of an image of 16h x 16w."""
    g = torch.Generator().manual_seed(0)
    taps = []
    for index, kind in enumerate(levels):
        if kind == 'map':
            stride = 4 * 2**index
            size = [-(-side * 16 // stride) for side in (h, w)]
            width = CHANNELS['map'][index]
            taps.append(torch.randn(b, width, *size, generator=g))
            continue
        n = h * w * (16 // patch) ** 2
        hw = (h * 16 // patch, w * 16 // patch)
        cls, extra = torch.randn(2, b, 12, generator=g)
        patches = torch.randn(b, n, 12, generator=g)
        taps.append(Tokens(cls, patches, hw, extra if dist else None))
    return taps


def make_decoder(levels=TOKENS, **options):
    torch.manual_seed(0)
    kinds = {TOKENS: 'tokens', MAPS: 'map', HYBRID: 'hybrid'}
    widths = CHANNELS[kinds[levels]]
    if levels != MAPS:
        own = [4, 6, 8, 10]
        options.setdefault('reassemble_channels', own)
    return DPTDecoder(widths, levels, channels=8, **options)


@pytest.mark.parametrize('levels', [TOKENS, MAPS, HYBRID])
def test_decoder__strides_and_order(levels):
    decoder = make_decoder(levels)
    taps = make_inputs(levels)
    maps = decoder.reassembled(taps)
    strides = [4, 8, 16, 32]
    assert [tuple(m.shape) for m in maps] == [
        (2, width, 64 // s, 96 // s)
        for width, s in zip((4, 6, 8, 10), strides)
    ]
    fused = decoder(taps)
    assert [tuple(m.shape) for m in fused] == [
        (2, 8, 64 // s, 96 // s) for s in (16, 8, 4, 2)
    ]


@pytest.mark.parametrize('levels', [TOKENS, HYBRID])
def test_decoder__equals_the_formula(levels):
    decoder = make_decoder(levels).double()
    taps = [
        Tokens(t.cls.double(), t.patches.double(), t.hw)
        if isinstance(t, Tokens)
        else t.double()
        for t in make_inputs(levels)
    ]
    maps = decoder.reassembled(taps)
    if levels == HYBRID:
        assert maps[0] is taps[0] and maps[1] is taps[1]
    skips = [
        F.conv2d(x, conv.weight, padding=1)
        for x, conv in zip(maps, decoder.lateral)
    ]
    blocks = decoder.fusion
    x = blocks[0](skips[3])
    for block, skip in ((1, 2), (2, 1), (3, 0)):
        x = blocks[block](x, skips[skip])
    torch.testing.assert_close(decoder(taps)[-1], x)


@pytest.mark.parametrize('levels', [TOKENS, MAPS, HYBRID])
@pytest.mark.parametrize('grid', [(3, 5), (4, 5), (1, 1)])
def test_decoder__odd_grids(levels, grid):
    decoder = make_decoder(levels)
    fused = decoder(make_inputs(levels, *grid))
    coarse = [-(-side // 2) for side in grid]
    for i, x in enumerate(fused):
        assert tuple(x.shape[2:]) == tuple(2 ** (i + 1) * s for s in coarse)
        assert torch.isfinite(x).all()


@pytest.mark.parametrize(
    'patch,kernels', [(8, [2, 1, -2, -4]), (16, [4, 2, 1, -2])]
)
def test_decoder__strides_stay_with_the_patch_size(patch, kernels):
    decoder = make_decoder(patch_size=patch)
    for module, kernel in zip(decoder.reassemble, kernels):
        if kernel == 1:
            assert module.resample is None
        else:
            kind = nn.ConvTranspose2d if kernel > 1 else nn.Conv2d
            assert isinstance(module.resample, kind)
            assert module.resample.stride == (abs(kernel),) * 2
    taps = make_inputs(TOKENS, patch=patch)
    assert decoder(taps)[-1].shape == (2, 8, 32, 48)


@pytest.mark.parametrize('levels', [TOKENS, MAPS, HYBRID])
@pytest.mark.parametrize('norm', [None, dict(type='BN')])
@pytest.mark.parametrize('dist', [False, True])
def test_decoder__every_parameter_gets_a_gradient(levels, norm, dist):
    decoder = make_decoder(levels, norm_cfg=norm)
    decoder(make_inputs(levels, dist=dist))[-1].square().mean().backward()
    without = [
        name
        for name, p in decoder.named_parameters()
        if p.grad is None or not p.grad.any()
    ]
    assert without == []
    assert decoder.fusion[0].unit1 is None


def test_decoder__map_of_a_vit_without_class_token():
    decoder = make_decoder(readout='ignore')
    taps = make_inputs(TOKENS)
    maps = [t.featmap for t in taps]
    for a, b in zip(decoder(maps), decoder(taps)):
        torch.testing.assert_close(a, b)


def test_decoder__without_project_is_smaller():
    plain, small = make_decoder(), make_decoder(with_project=False)
    gone = set(plain.state_dict()) - set(small.state_dict())
    assert gone == {
        f'fusion.{i}.project.{kind}'
        for i in range(4)
        for kind in ('weight', 'bias')
    }
    assert small(make_inputs(TOKENS))[-1].shape == (2, 8, 32, 48)


@pytest.mark.parametrize('levels', [TOKENS, MAPS, HYBRID])
def test_decoder__bf16_close_to_fp32(levels):
    decoder = make_decoder(levels).eval()
    taps = make_inputs(levels)
    with torch.no_grad():
        exact = decoder(taps)[-1]
        with torch.autocast('cpu', torch.bfloat16):
            rough = decoder(taps)[-1]
    assert rough.dtype == torch.bfloat16
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


def test_decoder__default_channels():
    decoder = DPTDecoder([768] * 4)
    widths = [conv.in_channels for conv in decoder.lateral]
    assert widths == [96, 192, 384, 768]
    hybrid = DPTDecoder([256, 512, 768, 768], HYBRID)
    widths = [conv.in_channels for conv in hybrid.lateral]
    assert widths == [256, 512, 384, 768]


@pytest.mark.parametrize(
    'change,match',
    [
        (dict(levels=['map', 'map', 'map']), 'four entries'),
        (dict(in_channels=12), 'four entries'),
        (dict(levels=['image'] * 4), "'image'"),
        (
            dict(levels=HYBRID, reassemble_channels=[4, 12, 8, 8]),
            r'reassemble_channels\[0\]=4 must equal in_channels\[0\]=12',
        ),
        (dict(readout='mean'), 'project'),
    ],
)
def test_decoder__bad_arguments(change, match):
    cfg = dict(type='mmdense.DPTDecoder', in_channels=[12] * 4, channels=8)
    with pytest.raises(ValueError, match=match):
        MODELS.build(dict(cfg, **change))


def test_decoder__wrong_inputs_are_named():
    taps = make_inputs(TOKENS)
    with pytest.raises(ValueError, match='3 outputs'):
        make_decoder()(taps[:3])
    with pytest.raises(ValueError, match=r'levels\[0\]="map"'):
        make_decoder(HYBRID)(taps)
    with pytest.raises(ValueError, match='class token'):
        make_decoder()([t._replace(cls=None) for t in taps])
    wide = DPTDecoder([16] * 4, channels=8)
    with pytest.raises(ValueError, match=r'in_channels\[0\]=16.*12'):
        wide(taps)
