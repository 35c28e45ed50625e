"""tools/infer_depth.py, as a user runs it."""

import json
import runpy
from copy import deepcopy

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdense.apis import DepthInferencer
from mmdense.apis.inference.depth_files import read_depth
from mmdense.apis.inference.video import FilmWriter
from mmdense.registry import toolbox_installed
from mmdense.testing.launch import ROOT
from mmdense.testing.tiny import build_model
from mmdense.utils.model_settings import forget_initial_weights

ROOMS = ROOT / 'demo' / 'data' / 'rooms'
IMAGES = sorted((ROOMS / 'val').glob('*.jpg'))[:3]
CONFIG = next(
    (ROOT / 'configs/local_global/benchmarks').glob('uper-depth_vit-demo-*')
)
pytestmark = pytest.mark.skipif(
    not toolbox_installed('mmseg'), reason='mmseg is not installed'
)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('depth')
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.arch = dict(
        embed_dims=16, num_layers=6, num_heads=2, feedforward_channels=16
    )
    cfg.model.neck.embed_dim = 16
    cfg.model.decode_head.update(in_channels=[16] * 4, channels=16)
    plain = deepcopy(cfg)
    forget_initial_weights(plain.model)
    model = build_model(plain)
    torch.nn.init.normal_(model.decode_head.conv_depth.weight, std=0.1)
    torch.save({'state_dict': model.state_dict()}, folder / 'd.pth')
    cfg.dump(str(folder / 'd.py'))
    return folder / 'd.py', folder / 'd.pth'


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*words, code=0):
        monkeypatch.setattr('sys.argv', ['infer_depth.py', *map(str, words)])
        found = 0
        try:
            runpy.run_path(
                str(ROOT / 'tools/infer_depth.py'), run_name='__main__'
            )
        except SystemExit as error:
            found = error.code or 0
        text = ''.join(capsys.readouterr())
        assert found == code, text
        return text

    return call


@pytest.fixture
def folder(tmp_path):
    """Two images, a broken one and two films, one of them broken."""
    folder = tmp_path / 'in'
    (folder / 'deep').mkdir(parents=True)
    for name, path in zip(('a.jpg', 'deep/b.jpg'), IMAGES):
        (folder / name).write_bytes(path.read_bytes())
    (folder / 'bad.jpg').write_bytes(b'nothing')
    (folder / 'cut.mp4').write_bytes(b'\0' * 400)
    with FilmWriter(folder / 'clip.mp4', 10) as film:
        for path in IMAGES:
            film.write(cv2.imread(str(path))[..., ::-1])
    return folder


def _files(out):
    return sorted(str(p.relative_to(out)) for p in out.rglob('*.*'))


def test_command__writes_goes_on_and_names_what_it_skips(
    made, folder, tmp_path, run
):
    out = tmp_path / 'out'
    common = (*made, '--out-dir', out, '--device', 'cpu')
    text = run(folder, *common, '--batch-size', 2)
    assert f'skipped {folder}/bad.jpg: not an image' in text
    assert f'skipped {folder}/cut.mp4: the file (400 bytes)' in text
    assert '2 of 3 images (0 kept), 1 of 2 films: metres' in text
    assert _files(out) == [
        *('depth.json', 'depth/a.png', 'depth/clip/000000.png'),
        *('depth/clip/000001.png', 'depth/clip/000002.png'),
        *('depth/deep/b.png', 'vis/a.png', 'vis/clip.mp4', 'vis/deep/b.png'),
    ]
    index = json.loads((out / 'depth.json').read_text())
    assert (index['kind'], index['unit']) == ('metric', 'metre')
    assert index['model']['weights'] == str(made[1])
    entry = index['images']['deep/b']
    assert entry['input'] == f'{folder}/deep/b.jpg'
    assert entry['size'] == [240, 320] and entry['png']['scale'] == 1000
    model = DepthInferencer(*map(str, made), 'cpu')
    expected = model(str(IMAGES[1]))['predictions'][0].depth
    depth, _ = read_depth(out / entry['png']['file'])
    assert np.abs(depth - expected).max() <= 6e-4
    assert entry['min'] == pytest.approx(expected.min(), abs=1e-4)
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob('*.png')}
    gone = out / 'depth' / 'a.png'
    gone.unlink()
    text = run(folder, *common, '--batch-size', 2, '--resume')
    assert '2 of 3 images (1 kept), 1 of 2 films' in text
    assert '3 of 3 frames, 3 of them kept' in text
    assert gone.exists()
    changed = {p for p, at in stamps.items() if p.stat().st_mtime_ns != at}
    assert changed == {gone, out / 'vis' / 'a.png'}
    text = run(folder, *common, '--resume', '--scale', 256, code=2)
    assert 'scale=1000, not 256' in text
    # results inside of the inputs are none of them
    text = run(tmp_path, *common)
    assert '2 of 3 images' in text


def test_command__formats_and_options(made, tmp_path, run):
    out = tmp_path / 'out'
    text = run(
        *(IMAGES[0], *made, '--out-dir', out, '--device', 'cpu'),
        *('--save', 'npy', 'ply', 'color', '--fov', 60, '--range', 1, 8),
        *('--panel', '--flip', '--tile', 160, '--overlap', 0.3),
        *('--amp', 'bf16', '--cfg-options', 'model.test_cfg.mode=whole'),
    )
    assert '1 of 1 images' in text
    name = IMAGES[0].stem
    assert _files(out) == [
        *('depth.json', f'depth/{name}.npy'),
        *(f'ply/{name}.ply', f'vis/{name}.png'),
    ]
    index = json.loads((out / 'depth.json').read_text())
    model = index['model']
    assert (model['flip'], model['amp']) == (True, 'bf16')
    assert (model['tile'], model['overlap']) == ([160, 160], 0.3)
    entry = index['images'][name]
    depth = np.load(out / entry['npy']['file'])
    assert depth.shape == (240, 320) and depth.dtype == np.float32
    assert entry['ply']['points'] == (depth > 0).sum()
    assert (entry['color']['low'], entry['color']['high']) == (1, 8)


def test_command__folder_as_film(made, tmp_path, run):
    frames = tmp_path / 'walk'
    frames.mkdir()
    for index, path in enumerate(IMAGES):
        (frames / f'{index}.jpg').write_bytes(path.read_bytes())
    out = tmp_path / 'out'
    text = run(
        *(frames, *made, '--out-dir', out, '--as-film', 5),
        *('--film-range', 'running', '--device', 'cpu'),
    )
    assert '0 of 0 images (0 kept), 1 of 1 films' in text
    assert _files(out / 'vis') == ['walk.mp4']
    assert len(_files(out / 'depth' / 'walk')) == 3


def test_command__nothing_works(made, folder, tmp_path, run):
    out = tmp_path / 'out'
    text = run(folder / 'bad.jpg', *made, '--out-dir', out, code=1)
    assert '0 of 1 images' in text
    inside = tmp_path / 'd' / 'depth'
    inside.mkdir(parents=True)
    (inside / 'a.png').write_bytes(IMAGES[0].read_bytes())
    text = run(inside / 'a.png', *made, '--out-dir', tmp_path / 'd', code=2)
    assert 'would overwrite the input' in text
    text = run(inside, *made, '--out-dir', tmp_path / 'd', code=2)
    assert 'where results go' in text


@pytest.mark.parametrize(
    'words,error',
    [
        (['--save', 'ply'], '--focal or --fov'),
        (['--tile', '1', '2', '3'], '--tile takes'),
        (['--batch-size', '0'], '--batch-size'),
        (['--as-film', '0'], '--as-film'),
        (['--amp', 'fp16', '--device', 'cpu'], 'needs a GPU'),
        (['--tile', '8'], 'tile='),
        (['--range', '3', '1'], 'lower end first'),
        (['--scale', '0'], 'scale=0'),
    ],
)
def test_command__mistakes_are_explained(made, tmp_path, run, words, error):
    out = ('--out-dir', tmp_path / 'out')
    text = run(IMAGES[0], *made, *out, *words, code=2)
    assert error in text
    assert not (tmp_path / 'out').exists()
