"""The checker as a command, and the documentation made from it."""

import json
import os
import subprocess
import sys

import pytest

from mmdense.datasets import layouts
from mmdense.testing.launch import ROOT

SCRIPT = ROOT / 'tools' / 'dataset_converters' / 'check.py'
DOC = ROOT / 'docs' / 'datasets.md'


@pytest.fixture(scope='module')
def check():
    """``main`` of the tool, called with arguments; returns exit and text."""
    import runpy

    main = runpy.run_path(str(SCRIPT))['main']

    def call(monkeypatch, capsys, *words):
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, 'argv', ['check.py', *map(str, words)])
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code
        return code, capsys.readouterr()

    return call


def test_check__rooms_of_the_demo(tmp_path):
    out = tmp_path / 'sub' / 'report.json'
    result = subprocess.run(
        [
            *(sys.executable, str(SCRIPT), 'rooms', 'demo/data/rooms'),
            *('--sample', '5', '--json', str(out)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    assert 'train.json.instances: 933 of 933' in result.stdout
    assert 'rooms: fine' in result.stdout
    data = json.loads(out.read_text())
    assert data['ok'] is True
    assert data['counts']['val.pairs.images'] == dict(found=40, expected=40)


def test_check__problems_end_with_one(check, monkeypatch, capsys, tmp_path):
    code, text = check(monkeypatch, capsys, 'coco', tmp_path / 'nowhere')
    assert code == 1
    assert 'There is no folder' in text.out
    assert 'https://cocodataset.org/#download' in text.out


@pytest.mark.parametrize(
    'words, message',
    [
        (['cityscape'], 'Nearest: cityscapes'),
        ([], 'Which data set?'),
        (['rooms', '--split', 'test'], "no split 'test'"),
        (['rooms', '--sample', '0'], 'at least 1'),
        (['rooms', '--json', 'demo/data/rooms/x.json'], 'in the data set'),
        (['rooms', '--task', 'pretraining'], "no task 'pretraining'"),
        (['rooms', '--json', ''], 'is no file'),
        (['rooms', '--json', 'configs'], "'configs' is no file"),
        (['rooms', '--json', 'setup.py/report.json'], 'cannot be written'),
        (['rooms', '--json', '/proc/none/x.json'], 'cannot be written'),
        (['segmentation', '--num-classes', '0'], 'at least 1'),
        (['segmentation', '--image-suffix', ''], 'may not be empty'),
        (['rooms', '--sample', '3', '--full'], 'not allowed with'),
    ],
)
def test_check__wrong_calls_end_with_two(
    words, message, check, monkeypatch, capsys
):
    code, text = check(monkeypatch, capsys, *words)
    assert code == 2
    assert message in text.err
    assert 'files opened' not in text.out
    assert not (ROOT / 'demo/data/rooms/x.json').exists()


def test_check__how_to_get(check, monkeypatch, capsys):
    code, text = check(monkeypatch, capsys, 'cityscapes', '--how')
    assert code == 0
    assert 'registration needed' in text.out
    assert 'leftImg8bit_trainvaltest.zip' in text.out
    assert 'data/cityscapes/annotations' in text.out
    # the folder of the toolbox, where it is installed
    pytest.importorskip('mmseg')
    assert '$MMSEG' not in text.out


def test_check__subset_split_and_own_labels(
    check, monkeypatch, capsys, tmp_path
):
    rooms = ROOT / 'demo' / 'data' / 'rooms'
    own = ['--images', 'val', '--labels', 'semantic/val', '--sample', '2']
    words = ['segmentation', rooms, *own]
    code, text = check(monkeypatch, capsys, *words, '--num-classes', '13')
    assert code == 0, text.out
    code, text = check(monkeypatch, capsys, *words, '--num-classes', '2')
    assert code == 1
    assert 'other values than 0 to 1 and 255' in text.out
    for folder in ('val', 'semantic/val'):
        os.makedirs(tmp_path / folder)
        name = sorted(os.listdir(rooms / folder))[0]
        os.symlink(rooms / folder / name, tmp_path / folder / name)
    part = ['rooms', tmp_path, '--split', 'val', '--task', 'segmentation']
    code, text = check(monkeypatch, capsys, *part)
    assert code == 1
    assert '39 missing' in text.out
    code, text = check(monkeypatch, capsys, *part, '--subset')
    assert code == 0, text.out


def test_check__full_shows_progress(check, monkeypatch, capsys):
    words = ['rooms', '--split', 'val', '--task', 'segmentation', '--full']
    code, text = check(monkeypatch, capsys, *words, '--workers', '2')
    assert code == 0
    assert '40/40' in text.err
    assert 'files opened: 80' in text.out


def test_check__list_draws_every_layout(check, monkeypatch, capsys):
    code, text = check(monkeypatch, capsys, '--list')
    assert code == 0
    for layout in layouts.LAYOUTS.values():
        assert f'{layout.name}: {layout.title}' in text.out
    assert '118,287 images' in text.out
    code, one = check(monkeypatch, capsys, 'voc0712', '--list')
    assert code == 0
    assert one.out.strip() in text.out
    code, own = check(
        *(monkeypatch, capsys, 'segmentation', '--list'),
        *('--labels', 'masks', '--num-classes', '7'),
    )
    assert code == 0
    assert 'masks' in own.out
    assert '0 to 6 and 255' in own.out


def test_check__report_on_a_full_disk(check, monkeypatch, capsys):
    if not os.path.exists('/dev/full'):
        pytest.skip('no /dev/full')
    words = ['rooms', '--split', 'val', '--sample', '1']
    code, text = check(monkeypatch, capsys, *words, '--json', '/dev/full')
    assert code == 2
    assert 'cannot be written' in text.err
    # what was found is not lost
    assert 'rooms: fine' in text.out


def test_check__report_over_an_older_one(check, monkeypatch, capsys, tmp_path):
    path = tmp_path / 'report.json'
    path.write_text('old')
    words = ['rooms', '--split', 'val', '--sample', '1', '--json', path]
    code, _ = check(monkeypatch, capsys, *words)
    assert code == 0
    assert json.loads(path.read_text())['ok'] is True


def test_check__subset_is_of_the_same_categories(
    check, monkeypatch, capsys, tmp_path
):
    rooms = ROOT / 'demo' / 'data' / 'rooms'
    (tmp_path / 'annotations').mkdir()
    os.symlink(
        rooms / 'annotations' / 'instances_val.json',
        tmp_path / 'annotations' / 'instances_val2017.json',
    )
    os.symlink(rooms / 'val', tmp_path / 'val2017')
    words = ['coco', tmp_path, '--split', 'val', '--task', 'detection']
    code, text = check(
        monkeypatch, capsys, *words, '--subset', '--sample', '2'
    )
    assert code == 1
    assert '10 categories instead of 80' in text.out


@pytest.mark.skipif(sys.platform != 'linux', reason='names are bytes there')
@pytest.mark.parametrize('encoding', ['utf-8', 'ascii'])
def test_check__names_that_the_terminal_cannot_show(encoding, tmp_path):
    for name in (b'\xff.jpg', 'ü.jpg'.encode()):
        with open(os.path.join(os.fsencode(tmp_path), name), 'wb'):
            pass
    result = subprocess.run(
        [sys.executable, str(SCRIPT), 'folder', str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        env={
            **os.environ,
            'PYTHONPATH': str(ROOT),
            'PYTHONIOENCODING': encoding,
        },
    )
    assert result.returncode == 1
    assert b'Traceback' not in result.stderr
    assert b'2 of 2 opened images' in result.stdout
    assert b'\\udcff.jpg: not a picture' in result.stdout


def test_docs__show_the_layouts_as_they_are(check, monkeypatch, capsys):
    words = ['--list', '--format', 'markdown']
    code, text = check(monkeypatch, capsys, *words)
    assert code == 0
    content = DOC.read_text(encoding='utf-8')
    before, _, rest = content.partition('<!-- layouts: begin -->\n')
    section, end, _ = rest.partition('<!-- layouts: end -->')
    assert end, 'docs/datasets.md has lost its marks'
    assert section.strip() == text.out.strip(), (
        'Put the output of tools/dataset_converters/check.py --list --format '
        'markdown between the marks of docs/datasets.md.'
    )
