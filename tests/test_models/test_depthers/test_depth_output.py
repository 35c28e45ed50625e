import math

import pytest
import torch

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmdense.models.depthers import DepthOutput  # noqa: E402
from mmdense.utils.errors import UserError  # noqa: E402

X = [-1e3, -0.5, 0.0, 1.0, 1e3]
NYU = dict(scale=3.05e-4, shift=0.1378)
KITTI = dict(scale=6.016e-5, shift=5.79e-3)


def out(mode, **options):
    return DepthOutput(mode, 0.5, 4.5, **options)


def values(module, x=X):
    return module(torch.tensor(x, dtype=torch.float64)).tolist()


def test_depth_output__ranges():
    expected = [0.5 + 4 / (1 + math.exp(-x)) if x > -700 else 0.5 for x in X]
    assert values(out('sigmoid_range')) == pytest.approx(expected)
    assert values(out('relu_min')) == [0.5, 0.5, 0.5, 1.5, 1000.5]


@pytest.mark.parametrize('non_negative', [True, False])
def test_depth_output__relative(non_negative):
    got = values(out('relative', non_negative=non_negative))
    assert got == ([0, 0, 0, 1, 1e3] if non_negative else X)


@pytest.mark.parametrize('affine', [NYU, KITTI])
@pytest.mark.parametrize('non_negative', [True, False])
@pytest.mark.parametrize('learn', [True, False])
def test_depth_output__inverse_affine(affine, non_negative, learn):
    module = out(
        'inverse_affine',
        non_negative=non_negative,
        learn_affine=learn,
        **affine,
    ).double()
    expected = []
    for x in X:
        x = max(x, 0) if non_negative else x
        expected.append(1 / max(affine['scale'] * x + affine['shift'], 1e-8))
    assert values(module) == pytest.approx(expected)
    assert len(list(module.parameters())) == 2 * learn


def test_depth_output__depth_beyond_every_inverse_is_finite():
    module = out('inverse_affine', scale=1.0, shift=0.0)
    x = torch.zeros(3, requires_grad=True)
    depth = module(x)
    assert depth.tolist() == pytest.approx([1e8] * 3)
    depth.sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize('shift', [0.1378, 0.0, -0.1])
def test_depth_output__learned_affine_reaches_another_camera(shift):
    module = out(
        'inverse_affine', scale=3.05e-4, shift=shift, learn_affine=True
    )
    x = torch.linspace(500, 3000, 64)
    goal = 1 / (6e-4 * x + 0.05)
    module.to(torch.float64)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(600):
        optimizer.zero_grad()
        error = (module(x.double()).log() - goal.log()).abs().mean()
        error.backward()
        optimizer.step()
    assert error < 0.03


@pytest.mark.parametrize(
    'mode,options',
    [
        ('sigmoid_range', {}),
        ('relu_min', {}),
        ('relative', {}),
        ('inverse_affine', NYU),
    ],
)
def test_depth_output__float32_under_autocast(mode, options):
    module = out(mode, **options)
    x = torch.tensor(X).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        got = module(x)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, module(x.float()))


@pytest.mark.parametrize(
    'mode,options',
    [
        ('sigmoid_range', {}),
        ('relu_min', {}),
        ('inverse_affine', NYU),
        ('inverse_affine', dict(KITTI, learn_affine=True)),
        ('inverse_affine', dict(KITTI, non_negative=False)),
    ],
)
def test_depth_output__bias_gives_the_depth(mode, options):
    module = out(mode, **options)
    bias = module.bias('Head', 2.7)
    assert values(module, [bias]) == pytest.approx([2.7])


@pytest.mark.parametrize('mode', ['relative', 'inverse_affine', 'relu_min'])
def test_depth_output__head_cut_at_zero_does_not_start_there(mode):
    module = out(mode, **(NYU if mode == 'inverse_affine' else {}))
    x = torch.tensor([module.bias('Head', None)], requires_grad=True)
    module(x).sum().backward()
    assert x.grad.abs() > 0


@pytest.mark.parametrize(
    'mode,options,match',
    [
        ('log', {}, 'relative'),
        ('inverse_affine', dict(scale=-1.0, shift=0.0), 'above 0'),
        ('inverse_affine', dict(scale=1.0), 'still to be found'),
        ('inverse_affine', dict(shift=1.0), 'still to be found'),
        ('relative', dict(learn_affine=True), 'belong'),
        ('sigmoid_range', dict(shift=1.0), 'belong'),
    ],
)
def test_depth_output__bad_settings(mode, options, match):
    with pytest.raises(ValueError, match=match):
        out(mode, **options)


@pytest.mark.parametrize('learn', [True, False])
def test_depth_output__open_scale_is_built_but_refuses_to_run(learn):
    module = out('inverse_affine', learn_affine=learn)
    assert 'a=None' in repr(module)
    for run in (lambda: values(module), lambda: module.bias('Head', 2.0)):
        with pytest.raises(UserError) as info:
            run()
        for part in (
            'model.decode_head.scale',
            'model.decode_head.shift',
            'tools/analysis_tools/fit_scale_shift.py',
        ):
            assert part in str(info.value)


def test_depth_output__start_stays_within_a_small_range():
    module = DepthOutput('relu_min', 0.2, 0.6)
    assert values(module, [module.bias('Head', None)]) == pytest.approx([0.4])


def test_depth_output__unreachable_start_is_named():
    module = DepthOutput('inverse_affine', 0, 80, **NYU)
    with pytest.raises(ValueError, match=r'1/shift=7\.26'):
        module.bias('Head', 20.0)
    with pytest.raises(ValueError, match='not between'):
        out('relu_min').bias('Head', 20.0)
