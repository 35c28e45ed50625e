import csv

import pytest
from mmengine.config import Config

import mmdense  # noqa: F401
from mmdense.registry import toolbox_installed
from mmdense.results.config_hash import config_hash
from mmdense.results.rows import RunRow, write_row
from mmdense.testing.launch import ROOT, run_tool

pytestmark = pytest.mark.skipif(
    not (toolbox_installed('mmseg') and toolbox_installed('mmdet')),
    reason='mmseg and mmdet are not installed',
)
NAME = 'linear_vit-tiny-p16_local-global-300e-pre_8xb2-64e_ade20k-512x512'


def table(*args, **kwargs):
    return run_tool('benchmarks/table.py', *args, **kwargs)


def test_missing__counts_and_exit_code():
    text = table('--missing', '--baselines', '--paper', 'LocalGlobal').stdout
    assert (
        "the papers' own methods: 12 of 12 rows have a config, 0 have none."
        in text
    )
    assert 'beit-as-cited/vit-b-16/ade20k  [quoted: taken by the' in text
    assert 'other methods: 5 of 9 rows have a config, 0 have none, 4 ' in text


def test_missing__ablations_are_listed_by_table():
    text = table('--missing', '--paper', 'DPT').stdout
    assert '\nDPT:Table 8\n  dpt/table-8/' in text


def test_table__made_up_runs(tmp_path):
    path = ROOT / f'configs/local_global/benchmarks/{NAME}.py'
    cfg = Config.fromfile(str(path))
    row = RunRow(
        config=NAME,
        config_hash=config_hash(cfg),
        protocol=cfg.benchmark.protocol,
        dataset='ADE20K',
        split='val',
        metrics={'mIoU': 36.5},
        units={'mIoU': '%'},
    )
    write_row(tmp_path / 'a' / 'results', row, 'x')
    write_row(tmp_path / 'a' / 'results', row._replace(config='mine'), 'y')
    (tmp_path / 'a/results/z.json').write_text('{')
    done = table('localglobal/table-1', '--runs', tmp_path)
    assert '| 36.2 → 36.5 (+0.3) |' in done.stdout
    assert '1 of 12 rows measured' in done.stdout
    assert 'z.json: no JSON' in done.stdout
    assert 'reproduce no published row: mine' in done.stdout

    out = tmp_path / 'out' / 'table.csv'
    table('localglobal/table-1', '--runs', tmp_path, '--out', out)
    with out.open(encoding='utf-8', newline='') as stream:
        rows = [r for r in csv.DictReader(stream) if r['measured']]
    (found,) = rows
    assert (found['measured'], found['difference']) == ('36.5', '+0.3')
    assert found['config'].endswith(f'{NAME}.py')


def test_table__html_of_a_paper(tmp_path):
    out = tmp_path / 'tables.html'
    table('--paper', 'LocalGlobal', '--out', out)
    text = out.read_text(encoding='utf-8')
    assert text.count('<table>') == text.count('</table>') == 2
    # a link from the file to the config
    link = text.split('href="')[1].split('"')[0]
    assert (tmp_path / link).resolve().is_file()


def test_todo__commands():
    text = table('--todo', f'configs/local_global/benchmarks/{NAME}.py').stdout
    lines = [line for line in text.splitlines() if line and line[0] != '#']
    assert len(lines) == 4
    assert 'GPU-hours (estimated)' in text


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--todo', 'selfpatch/table-9'], 'No published row has the key'),
        (['tabel-1'], 'Nearest: '),
        (['--paper', 'BEiT'], 'No paper is called'),
        (['--runs', 'no/such/folder'], 'No folder no/such/folder'),
    ],
)
def test_input__errors_in_one_line(args, message):
    done = table(*args, check=False)
    assert done.returncode == 2
    assert message in done.stdout
    assert 'Traceback' not in done.stdout


def test_keys__are_listed():
    text = table('--keys', '--paper', 'SelfPatch').stdout
    assert 'selfpatch/table-1/dino-selfpatch/vit-s-16/coco-2017\n' in text
    assert len(text.splitlines()) == 54
