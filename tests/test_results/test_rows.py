import json
import os

import pytest

from mmdense.results.rows import (
    RowWarning,
    RunRow,
    file_hash,
    from_json,
    read_rows,
    to_json,
    write_row,
)
from mmdense.utils.errors import UserValueError

ROW = RunRow(
    config='upernet_x',
    config_hash='0123456789abcdef',
    metrics={'mIoU': 42.5, 'aAcc': None},
    units={'mIoU': '%', 'aAcc': '%'},
    not_finite=['aAcc'],
    metric='mIoU',
    value=42.5,
    seed=3,
    finished=True,
    hardware={'device': 'CPU', 'count': 1},
    time='2026-01-02T03:04:05+00:00',
)


def test_row__round_trip():
    assert from_json(to_json(ROW)) == ROW


def test_row__no_nan_in_json():
    with pytest.raises(ValueError, match='not JSON compliant'):
        to_json(ROW._replace(value=float('nan')))


def test_write__never_overwrites_and_leaves_no_parts(tmp_path):
    first = write_row(tmp_path / 'a' / 'results', ROW, 'x')
    second = write_row(tmp_path / 'a' / 'results', ROW, 'x')
    assert (first.name, second.name) == ('x.json', 'x_2.json')
    assert sorted(os.listdir(first.parent)) == ['x.json', 'x_2.json']


def test_write__a_failure_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        write_row(tmp_path, ROW, 'x')
    assert os.listdir(tmp_path) == []


def test_read__finds_result_folders_only(tmp_path):
    write_row(tmp_path / 'run1' / 'test' / 'results', ROW, 'x')
    write_row(tmp_path / 'run2' / 'results', ROW._replace(seed=4), 'x')
    (tmp_path / 'run2' / 'scalars.json').write_text('{"a": 1}')
    rows = read_rows(tmp_path)
    assert sorted(row.seed for row in rows) == [3, 4]
    assert rows[0].file.endswith('x.json')
    assert len(read_rows(tmp_path / 'run2' / 'results')) == 1


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"schema": 1, "value', 'no JSON'),
        ('{"value": 3}', 'no "schema"'),
        ('{"schema": 99}', 'schema 99'),
        ('[1]', 'no run row'),
        ('{"schema": 1, "value": NaN}', 'NaN is no JSON'),
        ('{"schema": 1, "metrics": {"mIoU": "a"}}', "mIoU is 'a'"),
        ('{"schema": 1, "metrics": [1]}', 'metrics is .1., not an object'),
        ('{"schema": 1, "metrics": {"mIoU": 1e999}}', 'mIoU is inf'),
        ('{"schema": 1, "metrics": {"mIoU": true}}', 'mIoU is True'),
        ('{"schema": 1, "value": -1e999}', 'value is -inf'),
        ('{"schema": 1, "value": false}', 'value is False'),
        (f'{{"schema": 1, "value": 1{"0" * 400}}}', 'value is 1000'),
        ('{"schema": 1, "config": ["x"]}', 'config is .*, not a string'),
        ('{"schema": 1, "weights_hash": [1]}', 'weights_hash is .1.'),
        ('{"schema": 1, "time": null}', 'time is None'),
        ('{"schema": 1, "not_finite": 3}', 'not_finite is 3, not a list'),
        ('{"schema": 1, "not_finite": [3]}', 'not_finite.. is 3'),
        ('{"schema": 1, "initial_weights": 5}', 'initial_weights is 5'),
        ('{"schema": 1, "units": {"mIoU": []}}', 'units.mIoU is ..'),
        ('{"schema": 1, "training": {"world_size": "8"}}', "_size is '8'"),
        ('{"schema": 1, "pretraining": "x"}', 'pretraining is'),
        ('{"schema": 1, "finished": 1}', 'finished is 1'),
        ('{"schema": 1, "seed": 1.5}', 'seed is 1.5'),
        ('[' * 200000, 'no JSON'),
    ],
)
def test_read__a_broken_file_is_named_and_passed_over(tmp_path, text, message):
    write_row(tmp_path, ROW, 'good')
    (tmp_path / 'bad.json').write_text(text)
    with pytest.warns(RowWarning, match=message) as caught:
        rows = read_rows(tmp_path)
    assert len(rows) == 1
    assert 'bad.json' in str(caught[0].message)


def test_read__fields_of_a_later_minor_version_are_ignored(tmp_path):
    values = json.loads(to_json(ROW))
    values['new_field'] = 1
    assert from_json(json.dumps(values)) == ROW


def test_read__no_folder(tmp_path):
    with pytest.raises(UserValueError, match='No folder'):
        read_rows(tmp_path / 'nowhere')


def test_file_hash__is_sha256(tmp_path):
    path = tmp_path / 'a'
    path.write_bytes(b'abc')
    assert file_hash(path) == (
        'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    )
    assert file_hash(tmp_path / 'b') is None
    assert file_hash(None) is None
