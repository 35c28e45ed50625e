"""Commands of docs/depth.md and of README's part on depth."""

import os
import re
import runpy
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmdense.registry import toolbox_installed
from mmdense.testing.launch import ROOT
from mmdense.testing.tiny import build_model
from mmdense.utils.model_settings import forget_initial_weights

pytestmark = pytest.mark.skipif(
    not toolbox_installed('mmseg'), reason='mmseg is not installed'
)
DEPTH = (ROOT / 'docs/depth.md').read_text(encoding='utf-8')
README = (ROOT / 'README.md').read_text(encoding='utf-8')
CONFIG = re.search(r'^CONFIG=(\S+)$', DEPTH, re.M)[1]
# what a reader puts in
WORDS = {
    '$CONFIG': CONFIG,
    'DEPTH_CONFIG': CONFIG,
    'CHECKPOINT': 'WEIGHTS',
    'my_photos/': 'photos/',
}
# these need data or files that are not here: arguments alone are checked
UNRUN = (
    ('check.py', 'kitti-eigen'),
    ('convert_dpt.py', 'dpt_hybrid_nyu-2ce69ec7.pt'),
    ('test.py', 'dpt_hybrid_nyu.pth'),
    ('train.py', ''),
)


def _commands(text):
    """Command lines in the code blocks and between backticks."""
    blocks = ''.join(re.findall(r'```bash\n(.*?)```', text, re.S))
    lines = blocks.replace('\\\n', ' ').splitlines()
    prose = re.sub(r'```.*?```', '', text, flags=re.S)
    lines += re.findall(r'`(tools/\S+\.py [^`]*)`', prose)
    found = []
    for line in lines:
        words = [WORDS.get(w, w) for w in shlex.split(line, comments=True)]
        if words and words[0] == 'python':
            words = words[1:]
        if words and words[0].startswith('tools/'):
            found.append(words)
    return found


COMMANDS = _commands(DEPTH)
COMMANDS += [c for c in _commands(README) if 'depth' in c[0]]


def _unrun(words):
    return any(
        words[0].endswith('/' + tool) and argument in (*words, '')
        for tool, argument in UNRUN
    )


def _parse(words, monkeypatch):
    monkeypatch.setattr(sys, 'argv', list(words))
    monkeypatch.setenv('LOCAL_RANK', '0')
    return runpy.run_path(str(ROOT / words[0]))['parse_args']()


def test_docs__every_tool_of_depth_is_shown():
    names = {words[0].rsplit('/', 1)[-1] for words in COMMANDS}
    assert names == {
        *('browse_depth.py', 'check.py', 'convert_dpt.py', 'export_onnx.py'),
        *('infer_depth.py', 'test.py', 'train.py'),
    }
    assert len([c for c in COMMANDS if not _unrun(c)]) == 5


@pytest.mark.parametrize('words', COMMANDS, ids=' '.join)
def test_docs__tools_take_their_arguments(words, monkeypatch):
    args = _parse(words, monkeypatch)
    config = getattr(args, 'config', CONFIG)
    assert (ROOT / config).is_file()
    assert Config.fromfile(str(ROOT / config)).get('model')


def test_docs__options_of_infer_depth(monkeypatch):
    part = DEPTH.split('\n## Use\n')[1].split('\n## ')[0]
    options = [
        words
        for words in map(shlex.split, re.findall(r'`(--[^`]*)`', part))
        if words not in (['--scale'], ['--focal'], ['--out-dir'])
    ]
    assert len(options) == 3
    tool = next(c for c in COMMANDS if 'infer_depth' in c[0])
    for words in options:
        _parse([*tool, *words], monkeypatch)


def test_docs__check_knows_the_data_set(monkeypatch, capsys):
    words = next(c for c in COMMANDS if c[0].endswith('/check.py'))
    monkeypatch.setattr(sys, 'argv', [*words, '--how'])
    assert runpy.run_path(str(ROOT / words[0]))['main']() in (None, 0)
    assert 'kitti' in capsys.readouterr().out.lower()


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder as the docs take for granted, with an untrained model."""
    from mmdense.apis.inference.video import FilmWriter

    place = tmp_path_factory.mktemp('docs')
    for name in ('configs', 'demo', 'tools'):
        (place / name).symlink_to(ROOT / name)
    cfg = Config.fromfile(str(ROOT / CONFIG))
    forget_initial_weights(cfg.model)
    torch.save(
        {'state_dict': build_model(cfg).state_dict()}, place / 'WEIGHTS'
    )
    images = sorted((ROOT / 'demo/data/rooms/val').glob('*.jpg'))[:2]
    (place / 'photos').mkdir()
    with FilmWriter(place / 'film.mp4', 5) as film:
        for path in images:
            (place / 'photos' / path.name).write_bytes(path.read_bytes())
            with Image.open(path) as image:
                film.write(np.asarray(image.convert('RGB')))
    (place / 'photo.jpg').write_bytes(images[0].read_bytes())
    return place


def _run(words, place):
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', *words],
        cwd=place,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    'words', [c for c in COMMANDS if not _unrun(c)], ids=' '.join
)
def test_docs__commands_run(words, place):
    made = {
        'browse_depth.py': ('work_dirs/browse_depth', '*/report.html'),
        'export_onnx.py': ('.', 'depth.onnx'),
        'infer_depth.py': (words[-1], 'vis/**/*.png'),
        'test.py': ('seen', '**/*.png'),
    }
    tool = words[0].rsplit('/', 1)[-1]
    few = []
    if tool == 'export_onnx.py':
        pytest.importorskip('onnxruntime')
        pytest.importorskip('onnx')
    if tool == 'test.py':
        few = ['--cfg-options', 'test_dataloader.dataset.indices=2']
    _run([*words, *few], place)
    folder, pattern = made[tool]
    assert list((place / folder).glob(pattern))


@pytest.mark.slow
def test_docs__snippet_runs(place):
    code = re.search(r'```python\n(from mmdense.apis.*?)```', DEPTH, re.S)[1]
    names = f'config, weights = {CONFIG!r}, "WEIGHTS"\n'
    out = _run(['-c', names + code + '\nprint(found.depth.shape)'], place)
    assert out.strip().endswith('(240, 320)')


@pytest.mark.slow
def test_docs__a_test_refuses_weights_of_another_model(place):
    words = ['tools/test.py', CONFIG, 'OTHER', '--work-dir', 'other']
    state = torch.load(place / 'WEIGHTS', weights_only=True)['state_dict']
    names = [k for k in state if k.startswith('backbone.')]
    torch.save({'state_dict': {k: state[k] for k in names}}, place / 'OTHER')
    with pytest.raises(AssertionError, match='does not fit the model of'):
        _run(words, place)
    assert not list((place / 'other').glob('results/*'))
