import re

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from torch import nn

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmseg.models.segmentors import EncoderDecoder  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

from mmdense.models.backbones.tokens import Tokens  # noqa: E402
from mmdense.models.decode_heads import DPTSegHead  # noqa: E402
from mmdense.registry import MODELS  # noqa: E402

WIDTHS = [4, 6, 8, 10]
HEAD = dict(
    type='mmdense.DPTSegHead',
    in_channels=[12] * 4,
    reassemble_channels=WIDTHS,
    channels=8,
    num_classes=5,
)
VIT = dict(
    type='mmdense.VisionTransformer',
    arch=dict(
        embed_dims=12, num_layers=4, num_heads=2, feedforward_channels=24
    ),
    img_size=64,
    out_type='tokens',
    out_indices=[0, 1, 2, 3],
    final_norm=False,
    interpolate_mode='bilinear',
)


def make_taps(b=2, h=4, w=6):
    g = torch.Generator().manual_seed(0)
    return [
        Tokens(
            torch.randn(b, 12, generator=g),
            torch.randn(b, h * w, 12, generator=g),
            (h, w),
        )
        for _ in range(4)
    ]


def make_head(**options):
    torch.manual_seed(0)
    head = MODELS.build(dict(HEAD, **options))
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return head.eval()


def make_labels(b=2, h=64, w=96):
    g = torch.Generator().manual_seed(1)
    samples = []
    for _ in range(b):
        label = torch.randint(0, 5, (1, h, w), generator=g)
        label[torch.rand(1, h, w, generator=g) < 0.2] = 255
        sample = SegDataSample(
            metainfo=dict(img_shape=(h, w), ori_shape=(h, w))
        )
        sample.gt_sem_seg = PixelData(data=label)
        samples.append(sample)
    return samples


def stock_name(key):
    """Name in mmseg's DPTHead of a key of ours."""
    rules = (
        (r'decoder\.reassemble\.(\d)\.readout', r'readout_projects.\1.0'),
        (r'decoder\.reassemble\.(\d)\.project', r'projects.\1.conv'),
        (r'decoder\.reassemble\.(\d)\.resample', r'resize_layers.\1'),
    )
    for pattern, name in rules:
        if re.match(pattern, key):
            return 'reassemble_blocks.' + re.sub(pattern, name, key)
    key = re.sub(r'decoder\.lateral\.(\d)', r'convs.\1.conv', key)
    key = re.sub(
        r'decoder\.fusion\.(\d)\.project',
        r'fusion_blocks.\1.project.conv',
        key,
    )
    key = re.sub(
        r'decoder\.fusion\.(\d)\.unit(\d)\.conv(\d)',
        r'fusion_blocks.\1.res_conv_unit\2.conv\3.conv',
        key,
    )
    key = re.sub(
        r'decoder\.fusion\.(\d)\.unit(\d)\.norm(\d)',
        r'fusion_blocks.\1.res_conv_unit\2.conv\3.bn',
        key,
    )
    return key.replace('conv_out.', 'project.')


def test_seg_head__equals_the_stock_head_enlarged():
    from mmseg.models.decode_heads import DPTHead

    head = make_head()
    stock = DPTHead(
        embed_dims=12,
        post_process_channels=WIDTHS,
        readout_type='project',
        patch_size=16,
        in_channels=[12] * 4,
        channels=8,
        num_classes=5,
        in_index=[0, 1, 2, 3],
        input_transform='multiple_select',
        norm_cfg=dict(type='BN'),
    ).eval()
    state = {
        stock_name(key): value
        for key, value in head.state_dict().items()
        if not key.startswith('aux_')
    }
    result = stock.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    # the stock head has a first unit that is never used
    unused = 'fusion_blocks.0.res_conv_unit1.'
    assert all(key.startswith(unused) for key in result.missing_keys)
    taps = make_taps()
    with torch.no_grad():
        logits = stock([(t.featmap, t.cls) for t in taps])
        expected = F.interpolate(
            logits, scale_factor=2, mode='bilinear', align_corners=True
        )
        got = head(taps)
    assert got.shape == (2, 5, 64, 96)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_seg_head__losses_of_both_outputs():
    head = make_head(
        loss_decode=[
            dict(type='mmseg.CrossEntropyLoss', loss_weight=1.0),
            dict(type='mmseg.DiceLoss', loss_weight=3.0),
        ],
        aux_weight=0.3,
    )
    taps, samples = make_taps(), make_labels()
    with torch.no_grad():
        got = head.loss(taps, samples)
        fused = head.fuse(taps)
        aux = head.classify_aux(fused[-2])
        main = head(taps)
    assert set(got) == {
        'loss_ce',
        'loss_dice',
        'loss_aux_ce',
        'loss_aux_dice',
        'acc_seg',
    }
    assert aux.shape == (2, 5, 16, 24)
    label = torch.stack([s.gt_sem_seg.data for s in samples])[:, 0]
    aux = F.interpolate(aux, (64, 96), mode='bilinear')
    for logits, name, weight in (
        (main, 'loss_ce', 1.0),
        (aux, 'loss_aux_ce', 0.3),
    ):
        each = F.cross_entropy(
            logits, label, ignore_index=255, reduction='none'
        )
        # the stock loss averages over ignored pixels too
        torch.testing.assert_close(got[name], weight * each.mean())


def test_seg_head__aux_layers_are_conv_norm_relu_conv():
    head = make_head()
    x = torch.randn(2, 8, 5, 6)
    norm = head.aux_out.bn
    y = F.conv2d(x, head.aux_out.conv.weight, padding=1)
    y = F.batch_norm(
        y, norm.running_mean, norm.running_var, norm.weight, norm.bias
    )
    y = F.conv2d(y.relu(), head.aux_seg.weight, head.aux_seg.bias)
    with torch.no_grad():
        torch.testing.assert_close(head.classify_aux(x), y)


def test_seg_head__without_aux():
    head = make_head(aux_weight=0)
    assert not [k for k in head.state_dict() if 'aux' in k]
    losses = head.loss(make_taps(), make_labels())
    assert set(losses) == {'loss_ce', 'acc_seg'}


def test_seg_head__drops_values_not_channels():
    head = make_head(dropout_ratio=0.5)
    dropped = head.dropout.train()(torch.ones(1, 4, 20, 20)) == 0
    share = dropped.float().mean(dim=(2, 3))
    assert ((share > 0.3) & (share < 0.7)).all()
    assert make_head(dropout_ratio=0.0).dropout is None


@pytest.mark.parametrize('mode', ['bilinear', 'bicubic'])
def test_seg_head__interpolation_of_logits(mode):
    head = make_head(interpolation=mode)
    taps = make_taps()
    with torch.no_grad():
        logits = head(taps)
        same = head.predict(taps, [dict(img_shape=(64, 96))] * 2, None)
        metas = [dict(img_shape=(50, 70), pad_shape=(70, 100))] * 2
        got = head.predict(taps, metas, None)
        window = [dict(img_shape=torch.Size((9, 9)), pad_shape=(70, 100))]
        small = head.predict(taps, window, None)
    assert torch.equal(same, logits)
    expected = F.interpolate(logits, (70, 100), mode=mode)
    torch.testing.assert_close(got, expected)
    assert small.shape[2:] == (9, 9)


@pytest.mark.parametrize('size', [(64, 96), (48, 80)])
@pytest.mark.parametrize('bf16', [False, True])
def test_seg_head__every_parameter_of_a_model_gets_a_gradient(size, bf16):
    torch.manual_seed(0)
    model = EncoderDecoder(
        backbone=VIT,
        decode_head=HEAD,
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor'),
        test_cfg=ConfigDict(mode='whole'),
    )
    model.init_weights()
    model.train()
    inputs = torch.randn(2, 3, *size)
    with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
        losses = model.loss(inputs, make_labels(2, *size))
    assert set(losses) == {
        'decode.loss_ce',
        'decode.loss_aux_ce',
        'decode.acc_seg',
    }
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    without = [
        name
        for name, p in model.named_parameters()
        if p.grad is None or not torch.isfinite(p.grad).all()
    ]
    assert without == []
    model.eval()
    with torch.no_grad():
        results = model.predict(inputs, make_labels(2, *size))
    assert results[0].pred_sem_seg.data.shape == (1, *size)


def test_seg_head__init_of_both_outputs():
    head = make_head()
    head.init_weights()
    for conv in (head.conv_seg, head.aux_seg):
        assert conv.weight.abs().max() < 0.06
        assert not conv.bias.any()


@pytest.mark.parametrize(
    'change,match',
    [
        (dict(aux_weight=-0.1), 'below 0'),
        (dict(interpolation='nearest'), 'bicubic'),
        (dict(readout='mean'), 'project'),
        (dict(in_channels=[12] * 3), 'four entries'),
    ],
)
def test_seg_head__bad_arguments(change, match):
    with pytest.raises(ValueError, match=match):
        MODELS.build(dict(HEAD, **change))


def test_seg_head__is_registered():
    assert MODELS.get('mmdense.DPTSegHead') is DPTSegHead
