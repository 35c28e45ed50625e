"""Stages with commands of a moment."""

import json
import signal
import sys
import threading
import time

import pytest

from mmdense.apis.stages import (
    Stage,
    StageError,
    check_folder,
    code_files,
    run_stages,
)
from mmdense.testing.launch import ROOT
from mmdense.utils.errors import UserError


def _stage(folder, code, name='one', **settings):
    return Stage(name, folder, [sys.executable, '-c', code], **settings)


def test_run_stages__once(tmp_path, capsys):
    code = 'open("out.txt", "a").write("x")'
    for _ in range(2):
        run_stages([_stage(tmp_path / 'a', code)], tmp_path)
    assert (tmp_path / 'out.txt').read_text() == 'x'
    shown = capsys.readouterr().out
    assert shown.count('done in') == 1 and shown.count('already done') == 1


@pytest.mark.parametrize('what', ['command', 'input', 'identity', 'output'])
def test_run_stages__again_when_something_changed(tmp_path, what):
    given, made = tmp_path / 'in.txt', tmp_path / 'made.txt'
    given.write_text('1')
    code = f'open({str(made)!r}, "a").write("x")'

    def stage(code=code, identity=None):
        return _stage(
            tmp_path / 'a',
            code,
            inputs=[given],
            outputs=[made],
            identity=identity,
        )

    run_stages([stage()])
    changed = stage()
    if what == 'command':
        changed = stage(code + '\n')
    elif what == 'input':
        given.write_text('2')
    elif what == 'identity':
        changed = stage(identity=['other'])
    else:
        made.unlink()
    assert not changed.done
    run_stages([changed])
    assert changed.done
    assert made.read_text() == ('x' if what == 'output' else 'xx')


def test_stage__identity_stands_for_the_command(tmp_path):
    first = _stage(tmp_path, 'pass', identity=['a'])
    assert first.key == _stage(tmp_path, 'other', identity=['a']).key
    assert first.key != _stage(tmp_path, 'pass', identity=['b']).key
    assert first.key != _stage(tmp_path, 'pass').key


def test_stage__key_is_taken_once(tmp_path):
    given = tmp_path / 'in.txt'
    given.write_text('1')
    stage = _stage(tmp_path / 'a', 'pass', inputs=[given])
    before = stage.key
    given.write_text('2')
    assert stage.key == before
    assert _stage(tmp_path / 'a', 'pass', inputs=[given]).key != before


@pytest.mark.parametrize('keep_old', [True, False])
def test_prepare__what_another_command_left(tmp_path, keep_old, capsys):
    folder = tmp_path / 'a'
    for index, code in enumerate(('1', '2', '3')):
        stage = _stage(folder, code)
        stage.prepare(keep_old)
        (folder / 'result.txt').write_text(str(index))
    # the same command finds its own
    _stage(folder, '3').prepare(keep_old)
    assert (folder / 'result.txt').read_text() == '2'
    old = sorted(p.name for p in tmp_path.iterdir() if p != folder)
    assert old == (['a.old-1', 'a.old-2'] if keep_old else [])
    assert ('a.old-2' in capsys.readouterr().out) is keep_old
    if keep_old:
        assert (tmp_path / 'a.old-1' / 'result.txt').read_text() == '0'


def test_run_stages__failure_shows_the_log(tmp_path, capsys):
    stages = [
        _stage(tmp_path / 'bad', 'raise SystemExit("reason")', 'bad'),
        _stage(tmp_path / 'long', 'import time; time.sleep(60)', 'long'),
    ]
    start = time.time()
    with pytest.raises(StageError, match='bad failed'):
        run_stages(stages)
    assert time.time() - start < 30  # the other one was stopped
    assert 'reason' in capsys.readouterr().err
    assert not any(stage.done for stage in stages)


def test_run_stages__terminated_and_continued(tmp_path):
    """SIGTERM stops the command too; its folder is what it left."""
    code = (
        'import os, time\n'
        'if os.path.exists("half"):\n'
        '    open("whole", "w").close()\n'
        'else:\n'
        '    open("half", "w").close()\n'
        '    time.sleep(60)\n'
    )

    def terminate():
        for _ in range(300):
            if (tmp_path / 'half').exists():
                break
            time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        pytest.skip('signals come to the main thread')
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=terminate)
    thread.start()
    start = time.time()
    with pytest.raises(SystemExit) as info:
        run_stages([_stage(tmp_path / 'a', code)], tmp_path)
    thread.join()
    assert info.value.code == 128 + signal.SIGTERM
    assert time.time() - start < 50
    assert signal.getsignal(signal.SIGTERM) is before
    again = _stage(tmp_path / 'a', code)
    assert not again.done
    run_stages([again], tmp_path)
    assert (tmp_path / 'whole').exists() and again.done
    spent = float((tmp_path / 'a' / 'seconds.txt').read_text())
    marker = json.loads((tmp_path / 'a' / 'done.json').read_text())
    assert marker['seconds'] >= round(spent, 1) > 0


def test_stage__broken_marker_is_not_done(tmp_path):
    stage = _stage(tmp_path, 'pass')
    (tmp_path / 'done.json').write_text('{"key"')
    assert not stage.done


@pytest.mark.parametrize(
    'lines,epochs,shown',
    [
        ('', 3, 'starting'),
        ('Epoch(train)  [2][ 5/10]  lr: 1', 4, 'epoch 2/4 38 %'),
        ('Epoch(train)  [2][ 5/10]  lr: 1', 0, 'epoch 2'),
        ('Iter(train) [ 50/200]\nIter(train) [100/200]', 0, '100/200 50 %'),
    ],
)
def test_progress__of_both_loops(tmp_path, lines, epochs, shown):
    stage = _stage(tmp_path, 'pass', epochs=epochs)
    stage.log.write_text(lines)
    assert shown in stage.progress()


def test_stage__output_by_pattern(tmp_path):
    code = 'import os; os.mkdir("rows"); open("rows/a.json", "w").close()'

    def stage():
        return _stage(tmp_path, code, outputs=[tmp_path / 'rows' / '*.json'])

    run_stages([stage()], tmp_path)
    assert stage().done
    (tmp_path / 'rows' / 'a.json').rename(tmp_path / 'rows' / 'a.txt')
    assert not stage().done


def test_run_stages__command_holds_the_lock(tmp_path):
    """It outlives a caller that was killed."""
    with open(tmp_path / 'lock', 'w') as file:
        code = f'import os; os.fstat({file.fileno()})'
        with pytest.raises(StageError):
            run_stages([_stage(tmp_path / 'a', code)])
        run_stages([_stage(tmp_path / 'a', code)], held=[file.fileno()])


def test_check_folder__below_a_file(tmp_path):
    (tmp_path / 'f').write_text('')
    check_folder(tmp_path / 'new' / 'folder', '--x')
    for path in (tmp_path / 'f', tmp_path / 'f' / 'a' / 'b'):
        with pytest.raises(UserError, match='--x .*f is a file'):
            check_folder(path, '--x')


def test_code_files__package_and_shared_configs():
    files = {str(p.relative_to(ROOT)) for p in code_files(ROOT)}
    assert 'mmdense/apis/stages.py' in files
    assert 'configs/_base_/default_runtime.py' in files
    assert not any('.mim' in name for name in files)
