"""The benchmark of a training step: does it count and compare rightly?"""

import importlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from mmdense.models.backbones import VisionTransformer
from mmdense.testing.launch import run_tool
from mmdense.utils.checkpoint_keys import detect_layout, to_canonical

pytestmark = pytest.mark.filterwarnings('ignore:.*weight_norm')

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / 'tests' / 'data' / 'golden' / 'selfpatch_step.npz'


@pytest.fixture
def bench(monkeypatch):
    """Modules of ``tools/benchmarks`` by name."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools' / 'benchmarks'))
    return importlib.import_module


def small(bench, **options):
    """A step of a few million multiply-adds, with grids of 4x4 and 3x3."""
    given = dict(
        arch=(24, 2, 3),
        crops=((2, 64), (3, 48)),
        batch=2,
        out=48,
        patch_out=32,
        hidden=40,
        bottleneck=16,
    )
    return bench('step_variants').Setup(**{**given, **options})


def sizes_of(bench, setup, **options):
    dims, layers, _ = setup.shape
    return bench('mac_count').Sizes(
        dims,
        layers,
        setup.patch,
        setup.crops,
        setup.batch,
        setup.out,
        setup.patch_out,
        setup.hidden,
        setup.bottleneck,
        **options,
    )


def attend(query, key, value, *args, **kwargs):
    """Attention by matrix products, which the counter sees."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    return scores.softmax(dim=-1) @ value


@pytest.fixture
def counted(monkeypatch):
    """Multiply-adds of a call by torch's own counter."""
    monkeypatch.setattr(F, 'scaled_dot_product_attention', attend)

    def count(model, call):
        for module in model.modules():
            if hasattr(module, 'scaled_dot_product_attention'):
                module.scaled_dot_product_attention = attend
        with FlopCounterMode(display=False) as counter:
            call()
        assert counter.get_total_flops() % 2 == 0
        return counter.get_total_flops() // 2

    return count


def shake(model, seed):
    """Move every tensor a little, also those that start as 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for param in model.parameters():
            param += 0.05 * torch.randn(param.shape, generator=generator)


# arithmetic


def test_vit_macs__equal_flop_counter(bench, counted):
    macs = bench('mac_count')
    vit = VisionTransformer(
        arch=dict(
            embed_dims=24,
            num_layers=3,
            num_heads=2,
            feedforward_channels=96,
        ),
        img_size=64,
        patch_size=8,
    )
    images = torch.zeros(1, 3, 64, 64)
    expected = macs.patch_embedding(64, 24, 8) + macs.vit_layers(65, 24, 3)
    assert counted(vit, lambda: vit(images)) == expected


def test_head_macs__equal_flop_counter(bench, counted):
    head = bench('plain_selfpatch').Head(24, 48, 40, 16)
    expected = bench('mac_count').dino_head(24, 40, 16, 48)
    assert counted(head, lambda: head(torch.zeros(5, 24))) == 5 * expected


@pytest.mark.parametrize('name', ['dino', 'plain'])
def test_step_macs__equal_flop_counter(bench, counted, name):
    setup = small(bench)
    variant = bench('step_variants').BUILDERS[name](setup)
    crops = bench('step_variants').make_crops(setup)
    # torch's counter does not see the cosine similarity
    size = sizes_of(bench, setup, candidates=0)
    expected = bench('mac_count').step_macs(
        size, selfpatch=name == 'plain', per_copy=True
    )
    found = counted(variant.model, lambda: variant.loss(crops).backward())
    assert found == sum(expected.values())


def test_step_macs_of_selfpatch__near_flop_counter(bench, counted):
    # similarities of all pairs, the first block's query once: a little off
    setup = small(bench, arch=(96, 2, 3))
    variant = bench('step_variants').selfpatch(setup)
    crops = bench('step_variants').make_crops(setup)
    expected = bench('mac_count').step_macs(sizes_of(bench, setup), True)
    found = counted(variant.model, lambda: variant.loss(crops).backward())
    assert found == pytest.approx(sum(expected.values()), rel=0.05)


@pytest.mark.parametrize('arch, ratio', [('small', 1.49), ('tiny', 2.2)])
def test_step_macs__ratio_of_the_methods(bench, arch, ratio):
    macs = bench('mac_count')
    dims, layers, _ = macs.ARCHS[arch]
    size = macs.Sizes(dims, layers, 16, ((2, 224), (8, 96)), 1)
    (_, base), (_, ours), (_, plain) = macs.mac_rows(size)
    found = sum(ours.values()) / sum(base.values())
    assert found == pytest.approx(ratio, rel=0.03)
    assert plain['aggregation'] > ours['aggregation'] > 0
    assert base['aggregation'] == base['patch head'] == 0


# the plain step


def official(prefix, arrays):
    """Weights of the official code under the names of the plain step."""
    backbone, rest = {}, {}
    for key, value in arrays.items():
        if not key.startswith(prefix):
            continue
        key, value = key[len(prefix) :], torch.from_numpy(value)
        if key.startswith('backbone.'):
            backbone[key[len('backbone.') :]] = value
        else:
            for old, new in (
                ('ca_head.cls_blocks.', 'pool.blocks.'),
                ('ca_head.', 'pool.'),
                ('c_head.', 'neck.'),
                ('p_head.', 'patch_head.'),
            ):
                key = key.replace(old, new)
            rest[key] = value
    backbone = to_canonical(backbone, *detect_layout(backbone))[0]
    return {**rest, **{f'backbone.{k}': v for k, v in backbone.items()}}


def test_plain_step__has_the_numbers_of_the_official_code(bench):
    with np.load(GOLDEN) as file:
        arrays = dict(file)
    vit = VisionTransformer(
        arch=dict(
            embed_dims=36,
            num_layers=2,
            num_heads=3,
            feedforward_channels=144,
        ),
        img_size=224,
        patch_size=16,
        with_cls_token=False,
        final_norm=False,
        out_type='tokens',
        pos_embed_rule='scale',
        norm_cfg=dict(type='LN', eps=1e-6),
    )
    outs = dict(out=64, patch_out=32, hidden=64, bottleneck=24)
    plain = bench('plain_selfpatch').PlainSelfPatch(vit, 3, outs, wrap=True)
    plain.student.load_state_dict(official('sd_student/', arrays))
    plain.teacher.load_state_dict(official('sd_teacher/', arrays))
    plain.center.copy_(torch.from_numpy(arrays['in/center'][0]))
    plain.patch_center.copy_(torch.from_numpy(arrays['in/patch_center']))
    crops = [torch.from_numpy(arrays[f'in/crop{i}']) for i in range(4)]
    image, patch = plain.loss(crops)
    (image + 0.1 * patch).backward()
    assert image.item() == pytest.approx(arrays['out/c_loss'], rel=1e-5)
    assert patch.item() == pytest.approx(arrays['out/p_loss'], rel=1e-5)
    for name in ('center', 'patch_center'):
        expected = arrays[f'out/{name}'].reshape(1, -1)
        found = getattr(plain, name).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)
    grads = official('grad/', arrays)
    params = dict(plain.student.named_parameters())
    assert len(grads) == 16
    for name, expected in grads.items():
        limit = 1e-3 * expected.abs().max()
        assert (params[name].grad - expected).abs().max() < limit, name


@pytest.mark.parametrize('border', ['mask', 'wrap'])
def test_plain_step__equals_selfpatch(bench, border):
    variants = bench('step_variants')
    setup = small(bench, border=border)
    ours = variants.selfpatch(setup)
    model = ours.model
    shake(model, 1)  # so that teacher and student differ
    model.method.loss_module.center.uniform_(-0.1, 0.1)
    model.patch_loss.center.uniform_(-0.1, 0.1)
    plain = variants.plain_from(model, setup)
    crops = variants.make_crops(setup)
    losses = model.loss(crops, None)
    image, patch = plain.loss(crops)
    torch.testing.assert_close(losses['loss_image'], image)
    torch.testing.assert_close(losses['patch_term'], patch)
    ours.loss(crops).backward()
    (image + variants.LAMBDA * patch).backward()
    others = dict(plain.student.named_parameters())
    number = 0
    for name, param in ours.student():
        limit = 1e-4 * param.grad.abs().max() + 1e-7
        gap = (param.grad - others[name].grad).abs().max()
        assert gap < limit, name
        number += 1
    assert number == sum(p.requires_grad for p in others.values())
    for center in (model.method.loss_module, model.patch_loss):
        center._held.clear()
    model.loss(crops, None)
    ours.after()
    plain.move_teacher()
    torch.testing.assert_close(
        model.method.loss_module.center, plain.center, atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(
        model.patch_loss.center, plain.patch_center, atol=1e-6, rtol=1e-5
    )
    teacher = model.method.teacher.state_dict()
    for name, value in plain.teacher.state_dict().items():
        torch.testing.assert_close(teacher[name], value, msg=name)


def test_lightly_step__equals_dino(bench):
    pytest.importorskip('lightly')
    variants = bench('step_variants')
    setup = small(bench)
    ours = variants.dino(setup)
    shake(ours.model, 2)
    ours.model.loss_module.center.uniform_(-0.1, 0.1)
    peer = variants.lightly_from(ours.model, setup)
    crops = variants.make_crops(setup)
    mine, other = ours.loss(crops), peer.loss(crops)
    torch.testing.assert_close(mine, other)
    mine.backward()
    other.backward()
    ours.after()
    torch.testing.assert_close(
        ours.model.loss_module.center, peer.criterion.center[0]
    )
    grads = [p.grad for p in peer.student_backbone.parameters()]
    for grad, param in zip(grads, ours.model.backbone.parameters()):
        limit = 1e-4 * grad.abs().max() + 1e-7
        assert (grad - param.grad).abs().max() < limit


# measuring and judging


def test_fingerprints__tell_a_wrong_gradient(bench):
    variants = bench('step_variants')
    setup = small(bench)
    prints = []
    for name in ('selfpatch', 'plain'):
        stepper = bench('step_processes').Stepper(name, setup)
        look = partial(variants.fingerprints, stepper.variant)
        prints.append(stepper.step(look)[1])
    assert variants.disagreement(*prints) < 1e-4
    name = 'patch_head.mlp.2.weight'
    length, projection = prints[0][name]
    prints[0][name] = (length, projection + 0.01 * length)
    assert variants.disagreement(*prints) == pytest.approx(0.01, rel=0.02)
    del prints[0][name]
    with pytest.raises(ValueError, match='patch_head.mlp.2.weight'):
        variants.disagreement(*prints)


def test_live_peak__counts_what_is_alive_together(bench):
    def step():
        for _ in range(3):
            first = torch.ones(1000, 1000)
            second = first + 1
            del first, second

    found = bench('step_processes').live_peak(step)
    assert 8e6 <= found < 8.2e6


def test_judge__by_ratios_of_rounds(bench):
    def rounds(*pairs):
        return dict(rounds=[dict(cpu=c, wall=9.0, peak=p) for c, p in pairs])

    results = dict(
        dino=rounds((1.0, 10), (2.0, 10)),
        selfpatch=rounds((2.0, 50), (4.0, 50)),
        lightly=rounds((1.25, 10), (2.5, 10)),
        plain=rounds((2.2, 100), (4.4, 100)),
    )
    macs = dict(dino=100, selfpatch=160, plain=170)
    judge = bench('train_step').judge
    goals = judge(results, macs, 16, 'cpu')
    values = [(round(g['value'], 3), g['met']) for g in goals]
    assert values == [(1.25, False), (1.1, False), (0.5, True), (0.8, True)]
    assert not any(g['note'] for g in goals)
    assert judge(results, macs, 4, 'cpu')[2]['note']
    del results['plain'], results['lightly']
    assert len(judge(results, macs, 16, 'cpu')) == 1


@pytest.mark.parametrize(
    'text, words',
    [
        ('2x224+8', 'NUMBERxPIXELS'),
        ('2x100', 'multiple of --patch-size 16'),
        ('1x224+8x96', 'two global crops'),
    ],
)
def test_parse_crops__bad_text_says_what_is_needed(bench, text, words):
    with pytest.raises(SystemExit, match=words):
        bench('train_step').parse_crops(text, 16)


@pytest.mark.slow
def test_tool__measures_and_writes_a_report(tmp_path):
    out = tmp_path / 'numbers.json'
    options = {
        'batch': 2,
        'rounds': 2,
        'crops': '2x64+2x48',
        'hidden-channels': 64,
        'out-channels': 256,
        'patch-channels': 128,
        'out': out,
    }
    words = [w for k, v in options.items() for w in (f'--{k}', v)]
    words += ['--variants', 'dino', 'selfpatch', 'plain']
    found = run_tool('benchmarks/train_step.py', *words).stdout
    for part in ('mmdense SelfPatch', 'agree: loss to', 'GMAC/s', 'goal >='):
        assert part in found
    report = json.loads(out.read_text())
    (run,) = report['runs']
    assert set(run['results']) == {'dino', 'selfpatch', 'plain'}
    (pair,) = run['agreement']
    assert pair['loss'] < 1e-5 and pair['gradient'] < 1e-4
    for result in run['results'].values():
        assert len(result['rounds']) == 2
        assert result['tensors'] > 0
        assert all(r['cpu'] > 0 and r['peak'] > 0 for r in result['rounds'])
    assert len(run['goals']) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_tool__reports_the_share_of_the_peak_of_a_gpu(tmp_path):
    out = tmp_path / 'numbers.json'
    words = ['--device', 'cuda', '--batch', 4, '--rounds', 2, '--out', out]
    words += ['--variants', 'selfpatch', 'plain', '--peak-tflops', 100]
    found = run_tool('benchmarks/train_step.py', *words).stdout
    assert '% of peak' in found
    runs = json.loads(out.read_text())['runs']
    assert [run['compile'] for run in runs] == [False, True]
    for run in runs:
        for result in run['results'].values():
            assert all(r['peak'] > 0 for r in result['rounds'])
