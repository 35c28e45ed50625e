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


def _copy(folder, change):
    """A folder with the dino_vit case, its arrays changed."""
    case = dict(golden.read_index(FOLDER)['dino_vit'], file='other.npz')
    with np.load(FOLDER / 'dino_vit.npz') as stored:
        arrays = {key: stored[key] for key in stored.files}
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
