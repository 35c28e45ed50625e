import importlib
import json
import math

import pytest

from mmdense.testing.launch import ROOT

FOLDER = ROOT / 'tools' / 'benchmarks'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module('depth_metric')


def test_values__equal_where_stock_is_right(tool):
    pytest.importorskip('mmseg')
    import mmdense  # noqa: F401

    rows, right = tool.compare_values((24, 32))
    assert right
    table = {(case, name): values for case, name, *values in rows}
    equal = [key for key in table if key[0] == 'equal']
    assert len(equal) == 9
    for key in equal:
        truth, ours, stock = table[key]
        assert ours == pytest.approx(truth, rel=2e-6)
        assert stock == pytest.approx(truth, rel=2e-6)
    # stock's silog is another one
    truth, ours, stock = table['stock: lambda 0.5, no 100', 'silog']
    assert ours == pytest.approx(truth, rel=2e-6)
    assert stock != pytest.approx(truth / 100, rel=1e-6)
    truth, ours, stock = table['NaN in a prediction', 'abs_rel']
    assert ours == pytest.approx(truth, rel=2e-6)
    assert math.isnan(stock)
    _, _, stock = table["depth_metrics=['rmse']", 'rmse']
    assert stock == 'TypeError'


def test_main__writes_numbers(tool, tmp_path, capsys):
    pytest.importorskip('mmseg')
    path = tmp_path / 'numbers.json'
    arguments = '--images 2 --rounds 1 --size 24 32 --memory-images 2 --json'
    assert tool.main([*arguments.split(), str(path)]) in (0, 1)
    report = json.loads(path.read_text())
    assert report['right'] is True
    # 600 valid pixels or so, twice, of four bytes
    assert report['kept_bytes']['stock'] > 4000
    assert report['kept_bytes']['ours'] < 500
    assert report['seconds']['stock']['cpu'] > 0
    text = capsys.readouterr().out
    assert 'values right: True' in text
    if report['memory_mib']:
        assert set(report['memory_mib']) == {'ours', 'stock'}


def test_parse_args__bad_numbers(tool, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(['--images', '0'])
    assert 'positive' in capsys.readouterr().err
