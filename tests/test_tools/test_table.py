import csv
import importlib.util
import os

import pytest
from mmengine.config import Config

import mmdense  # noqa: F401
from mmdense.registry import toolbox_installed
from mmdense.results.config_hash import config_hash
from mmdense.results.rows import RunRow, write_row
from mmdense.testing.launch import ROOT, run_tool
from mmdense.utils.errors import UserValueError

pytestmark = pytest.mark.skipif(
    not (toolbox_installed('mmseg') and toolbox_installed('mmdet')),
    reason='mmseg and mmdet are not installed',
)
NAME = 'linear_vit-tiny-p16_local-global-300e-pre_8xb2-64e_ade20k-512x512'


def load_tool():
    path = ROOT / 'tools/benchmarks/table.py'
    spec = importlib.util.spec_from_file_location('table_tool', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(*args, **kwargs):
    return run_tool('benchmarks/table.py', *args, **kwargs)


def test_missing__counts_and_exit_code():
    text = table('--missing', '--baselines', '--paper', 'LocalGlobal').stdout
    assert (
        "the papers' own methods: 12 of 12 rows have a config, 0 have one "
        'whose pre-training is missing, 0 have none.' in text
    )
    assert 'beit-as-cited/vit-b-16/ade20k  [quoted: taken by the' in text
    assert 'other methods: 5 of 9 rows have a config, 0 have one ' in text
    assert 'missing, 0 have none, 4 are quoted' in text


def test_missing__pretraining_that_is_not_there_is_counted_by_itself():
    tool = load_tool()
    keys = list(tool.lines())[:4]
    found = {
        keys[0]: ['no config'],
        keys[1]: ['no pre-training config x'],
        keys[2]: ['quoted: y'],
    }
    text = tool.missing_text(found, 4, 'all', False)
    assert text.endswith(
        'all: 1 of 4 rows have a config, 1 have one whose pre-training is '
        'missing, 1 have none, 1 are quoted and have none on purpose; '
        '--waiting lists those without their pre-training.\n'
    )
    assert keys[1] not in text


def test_missing__waiting_rows_stand_behind_those_without_a_config():
    tool = load_tool()
    keys = [k for k in tool.lines() if k.startswith('selfpatch/table-1/')]
    others = [k for k in tool.lines() if k.startswith('dpt/table-8/')]
    found = {
        keys[0]: ['no pre-training config later_a'],
        keys[1]: ['no config'],
        others[0]: ['no pre-training config later_b'],
        others[1]: ['x is not in configs/public_weights.yml'],
    }
    assert tool.missing_text(found, 9, 'all', True).splitlines() == [
        'SelfPatch:Table 1',
        f'  {keys[1]}',
        '',
        'DPT:Table 8',
        f'  {others[1]}  [x is not in configs/public_weights.yml]',
        '',
        'With a config that waits for one of a pre-training:',
        '',
        'SelfPatch:Table 1',
        f'  {keys[0]}  [waits for later_a]',
        '',
        'DPT:Table 8',
        f'  {others[0]}  [waits for later_b]',
        '',
        'all: 5 of 9 rows have a config, 3 have one whose pre-training is '
        'missing, 1 have none.',
    ]


def test_missing__dpt_has_none():
    text = table('--missing', '--paper', 'DPT').stdout
    assert text.endswith(
        'rows have a config, 0 have one whose pre-training is missing, '
        '0 have none.\n'
    )


def test_table__made_up_runs(tmp_path):
    path = ROOT / f'configs/local_global/benchmarks/{NAME}.py'
    cfg = Config.fromfile(str(path))
    row = RunRow(
        config=NAME,
        config_hash=config_hash(cfg),
        training_hash=config_hash(cfg, test=False),
        training={'world_size': 8, 'batch_size': 2},
        finished=True,
        initial_weights='/x/local-global_vit-tiny-p16.pth',
        pretraining=cfg.benchmark.pretraining.to_dict(),
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
    # a link from the file to the config, through no other link
    link = text.split('href="')[1].split('"')[0]
    assert '.mim' not in link
    path = os.path.normpath(os.path.join(os.path.realpath(tmp_path), link))
    assert os.path.isfile(path)
    assert path == os.path.realpath(path)


def test_table__suffix_in_any_case(tmp_path):
    out = tmp_path / 'TABLE.CSV'
    table('localglobal/table-1', '--out', out)
    assert out.read_text(encoding='utf-8').startswith('table,key,method')


def test_out__that_cannot_be_written_is_told_before_the_work(tmp_path):
    file = tmp_path / 'file'
    file.write_text('kept')
    tool = load_tool()
    with pytest.raises(UserValueError, match='is a folder'):
        tool.check_out(str(tmp_path))
    with pytest.raises(UserValueError, match='file is a file'):
        tool.check_out(str(file / 'a' / 'table.md'))
    tool.check_out(str(tmp_path / 'new' / 'table.md'))
    done = table('--out', tmp_path, '--runs', 'no/such', check=False)
    assert done.returncode == 2
    assert 'is a folder; name a file' in done.stdout
    assert 'Traceback' not in done.stdout


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--missing', '--format', 'html'], '--missing writes plain text'),
        (['--missing', '--out', 'x.HTML'], '--missing writes plain text'),
        (['--todo', 'x', '--out', 'x.csv'], '--todo writes plain text'),
        (['--missing', '--todo', 'x'], 'not allowed with'),
        (['--missing', '--keys'], 'not allowed with'),
        (['--todo', 'x', '--', 'table-1'], 'neither TABLE nor'),
        (['--todo', ''], '--todo needs the key'),
        (['--keys', '--runs', '.'], '--keys takes neither --runs'),
        (['--any-protocol'], 'goes with --runs'),
        (['--baselines'], 'goes with --missing'),
    ],
)
def test_options__that_would_be_ignored_are_refused(
    args, message, monkeypatch, capsys
):
    monkeypatch.setattr('sys.argv', ['table.py', *args])
    with pytest.raises(SystemExit) as error:
        load_tool().parse_args()
    assert error.value.code == 2
    assert message in capsys.readouterr().err


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
