import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from mmdense.testing import golden
from mmdense.testing.golden_cases import CASES

FOLDER = Path(__file__).parents[1] / 'data' / 'golden'


@pytest.mark.parametrize('name', sorted(CASES))
def test_replay__committed_vectors(name):
    case = golden.read_index(FOLDER)[name]
    result = golden.replay(FOLDER, case)
    assert result.status == golden.PASSED, result.line()


def test_replay__every_backbone_array_is_compared():
    cases = golden.read_index(FOLDER)
    for name in ('dino_vit', 'selfpatch_vit', 'pos_embed'):
        stored = np.load(FOLDER / cases[name]['file'])
        count = sum(key.startswith('out/') for key in stored.files)
        result = golden.replay(FOLDER, cases[name])
        assert result.status == golden.PASSED
        assert f'{count} of {count} arrays' in result.text


STEPS = ('dino_head', 'dino_step', 'moby', 'selfpatch_head', 'selfpatch_step')
_RESULTS = ('out/', 'grad/', 'gradclip/', 'ema/')


def _stored(name):
    with np.load(FOLDER / f'{name}.npz') as stored:
        return {key: stored[key] for key in stored.files}


@pytest.mark.parametrize('name', STEPS)
def test_replay__every_array_of_the_methods_is_compared(name):
    case, arrays = golden.read_index(FOLDER)[name], _stored(name)
    rows = list(_replay_function(name)(case, arrays))
    names = [row[0] for row in rows]
    assert len(names) == len(set(names))
    assert set(names) == {k for k in arrays if k.startswith(_RESULTS)}
    for name, got, expected, rtol, atol in rows:
        assert got.shape == expected.shape, name
        if expected.dtype.kind == 'i':
            assert rtol == 0 and atol == 0 and got.dtype.kind == 'i', name
        elif name.startswith(('grad/', 'gradclip/')):
            largest = np.abs(expected).max()
            assert rtol == 0 and 0 < atol <= 1e-3 * largest, name
        else:
            assert rtol <= 2e-4 and atol <= 2e-5, name


def _replay_function(name):
    module = f'mmdense.testing.golden_cases.{CASES[name]}'
    return getattr(importlib.import_module(module), name)


def _wrong(name, arrays):
    """Names of a case that are out of tolerance."""
    case = golden.read_index(FOLDER)[name]
    bad = []
    for row in _replay_function(name)(case, arrays):
        if not golden.judge([row])[0]:
            bad.append(row[0])
    return bad


@pytest.mark.parametrize('name', STEPS)
def test_replay__each_changed_result_is_noticed(name):
    arrays = _stored(name)
    results = sorted(k for k in arrays if k.startswith(_RESULTS))
    for key in results:
        value = arrays[key]
        if value.dtype.kind == 'i':
            flat = value.flatten()
            flat[-1] += 1
            arrays[key] = flat.reshape(value.shape)
        else:
            flat = value.astype(np.float64).flatten()
            flat[np.abs(flat).argmax()] *= 1 + 2e-3
            arrays[key] = flat.reshape(value.shape)
    assert sorted(_wrong(name, arrays)) == results


# what goes in -> some of what must come out differently
_INPUTS = {
    ('dino_head', 'sd/two/mlp.0.weight'): {'out/two', 'grad/two/x'},
    ('dino_head', 'sd/bn/mlp.1.running_var'): {'out/bn_eval'},
    ('dino_head', 'in/w'): {'grad/one/x', 'grad/free_g/last_layer.weight_g'},
    ('dino_step', 'in/center'): {'out/total', 'out/center'},
    ('dino_step', 'sd_teacher/head.mlp.2.weight'): {
        'out/teacher',
        'ema/head.mlp.2.weight',
    },
    ('dino_step', 'sd_student/backbone.cls_token'): {
        'out/student',
        'grad/backbone.cls_token',
        'out/param_norms',
    },
    ('moby', 'sd/queue1'): {'out/loss_21', 'out/loss', 'out/queue1'},
    ('moby', 'sd/queue_ptr'): {'out/queue1', 'out/queue2', 'out/queue_ptr'},
    ('moby', 'in/im_2'): {'out/loss_12', 'out/bn_running_mean'},
    ('moby', 'sd/encoder_k.patch_embed.proj.bias'): {
        'ema/encoder_k.patch_embed.proj.bias'
    },
    ('selfpatch_head', 'in/x36'): {'out/sim_36', 'out/topk_patch_36'},
    ('selfpatch_head', 'sd/cls_blocks.1.attn.v.weight'): {
        'out/teacher_196',
        'out/student_36',
    },
    ('selfpatch_step', 'in/patch_center'): {'out/p_loss', 'out/patch_center'},
    ('selfpatch_step', 'in/crop3'): {'out/teacher_topk_local', 'out/c_loss'},
    ('selfpatch_step', 'sd_teacher/ca_head.norm.weight'): {
        'out/teacher_loc_global',
        'out/center',
    },
}


@pytest.mark.parametrize('name, key', list(_INPUTS))
def test_replay__each_changed_input_is_noticed(name, key):
    arrays = _stored(name)
    value = arrays[key]
    if value.dtype.kind == 'i':
        arrays[key] = value - value // 3
    else:
        noise = np.random.default_rng(0).normal(size=value.shape)
        arrays[key] = (value * (1 + 0.3 * noise) + 0.1).astype(np.float32)
    assert _INPUTS[name, key] <= set(_wrong(name, arrays))


@pytest.mark.parametrize(
    'name, hyper, bad',
    [
        ('dino_step', {'clip': 0.03}, {'gradclip/backbone.norm.weight'}),
        ('dino_step', {'ema': 0.99}, {'ema/head.mlp.2.weight'}),
        ('dino_step', {'center_momentum': 0.8}, {'out/center'}),
        ('dino_step', {'teacher_temp': 0.05}, {'out/total'}),
        ('moby', {'m': 0.98}, {'out/momentum'}),
        ('moby', {'start_epoch': 4}, {'out/momentum'}),
        ('moby', {'T': 0.21}, {'out/loss', 'out/loss_12', 'out/loss_21'}),
        ('selfpatch_step', {'patch_loss_weight': 0.2}, {'out/total'}),
        ('selfpatch_head', {'num_heads': 4}, {'out/teacher_36'}),
    ],
)
def test_replay__hyper_parameters_are_read(name, hyper, bad):
    case, arrays = golden.read_index(FOLDER)[name], _stored(name)
    case['hyper'].update(hyper)
    rows = _replay_function(name)(case, arrays)
    assert bad <= {row[0] for row in rows if not golden.judge([row])[0]}


def test_replay__schedules_are_those_named():
    case, arrays = golden.read_index(FOLDER)['dino_step'], _stored('dino_step')
    for key, text in case['arrays'].items():
        case['arrays'][key] = text.replace('1e-6,4,5', '1e-6,5,4')
    rows = _replay_function('dino_step')(case, arrays)
    bad = [row[0] for row in rows if not golden.judge([row])[0]]
    assert bad == ['out/sched_lr']


def _copy(folder, change):
    """A folder with the dino_vit case, its arrays changed."""
    case = dict(golden.read_index(FOLDER)['dino_vit'], file='other.npz')
    arrays = _stored('dino_vit')
    change(arrays, case)
    np.savez(folder / 'other.npz', **arrays)
    index = {'cases': [case]}
    (folder / 'index.json').write_text(json.dumps(index))


def _shift(arrays, case):
    arrays['out/rect'] = arrays['out/rect'] + 1e-3


def _shape(arrays, case):
    arrays['out/rect'] = arrays['out/rect'][:, :-1]


def _nan(arrays, case):
    arrays['in/rect'] = arrays['in/rect'] * np.nan


def _missing(arrays, case):
    del arrays['sd/norm.weight']


@pytest.mark.parametrize('change', [_shift, _shape, _nan, _missing])
def test_main__disagreement_fails(tmp_path, capsys, change):
    _copy(tmp_path, change)
    assert golden.main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert 'FAIL' in out
    if change is not _missing:
        assert 'out/rect' in out


def test_main__tolerance_comes_from_the_index(tmp_path):
    def loose(arrays, case):
        _shift(arrays, case)
        case['tolerance'] = {'rtol': 0, 'atol': 1e-2}

    _copy(tmp_path, loose)
    assert golden.main([str(tmp_path)]) == 0


def test_main__unknown_case_is_not_implemented(tmp_path, capsys):
    (tmp_path / 'index.json').write_text(
        json.dumps({'cases': [{'name': 'something_new'}]})
    )
    assert golden.main([str(tmp_path)]) == 0
    assert 'not implemented' in capsys.readouterr().out


def test_main__wrong_calls(tmp_path, capsys):
    assert golden.main([str(tmp_path)]) == 2
    assert 'index.json' in capsys.readouterr().err
    assert golden.main([str(FOLDER), '--cases', 'dino_vitt']) == 2
    assert 'dino_vit' in capsys.readouterr().err


def test_main__one_case(capsys):
    assert golden.main([str(FOLDER), '--cases', 'pos_embed']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith('pos_embed') and 'pass' in line for line in lines
    )


@pytest.mark.parametrize(
    'got, expected, good',
    [
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1.0, np.nan], [1.0, np.nan], True),
        ([1.0, np.nan], [1.0, 2.0], False),
        ([np.inf], [np.inf], True),
        ([1.0, 2.0 + 3e-4], [1.0, 2.0], False),
        ([1.0], [1.0, 1.0], False),
        ([1.0 + 5e-5], [1.0], True),
    ],
)
def test_judge__cases(got, expected, good):
    items = [('x', np.array(got), np.array(expected), 1e-4, 0.0)]
    assert golden.judge(items)[0] is good


def test_judge__exact_and_empty():
    assert golden.judge([('x', np.array(1), np.array(1), 0, 0)])[0]
    assert not golden.judge([('x', np.array(1), np.array(2), 0, 0)])[0]
    assert not golden.judge([])[0]
