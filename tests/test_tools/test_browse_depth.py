import json
import re
import runpy
import sys

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from mmdense.registry import toolbox_installed
from mmdense.testing.launch import ROOT

pytestmark = pytest.mark.skipif(
    not toolbox_installed('mmseg'), reason='mmseg is not installed'
)
SCRIPT = ROOT / 'tools' / 'analysis_tools' / 'browse_depth.py'
SIZE = (40, 50)
ROOMS = ROOT / 'configs/_base_/datasets/rooms_depth.py'


@pytest.fixture(scope='module')
def main():
    return runpy.run_path(str(SCRIPT))['main']


@pytest.fixture
def browse(main, monkeypatch, capsys, tmp_path):
    def call(config, *words):
        out = tmp_path / 'report'
        words = [config, '--out', out, *words]
        monkeypatch.setattr(sys, 'argv', ['browse_depth.py', *map(str, words)])
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code
        return code, capsys.readouterr(), out

    yield call
    # later tests log elsewhere
    MMLogger._instance_dict.pop('browse_depth', None)


@pytest.fixture
def two_sets(tmp_path):
    """A config with two training sets, one of which is in millimetres."""
    for name, value in (('near', 2000), ('far', 8000)):
        for i in range(4):
            for kind in ('images', 'depth'):
                (tmp_path / name / kind).mkdir(parents=True, exist_ok=True)
            image = np.full((*SIZE, 3), 50 * i, np.uint8)
            Image.fromarray(image).save(tmp_path / name / f'images/{i}.jpg')
            depth = np.full(SIZE, value, np.uint16)
            depth[:10] = 0
            Image.fromarray(depth).save(tmp_path / name / f'depth/{i}.png')

    def write(factor=1e-3, more=''):
        path = tmp_path / 'config.py'
        path.write_text(
            f"""
default_scope = 'mmdense'
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdense.LoadDepth', depth_rescale_factor={factor}),
    dict(type='mmseg.Resize', scale=(25, 20)),{more}
    dict(type='mmseg.PackSegInputs'),
]
sets = [
    dict(type='mmdense.DepthFolder', data_root={str(tmp_path / 'near')!r},
         dataset_name='near', pipeline=pipeline),
    dict(type='mmdense.DepthFolder', data_root={str(tmp_path / 'far')!r},
         dataset_name='far', pipeline=pipeline),
]
train_dataloader = dict(batch_size=1, dataset=dict(
    type='ConcatDataset', datasets=sets))
val_dataloader = dict(batch_size=1, dataset=dict(sets[0], test_mode=True))
val_evaluator = dict(type='mmdense.DepthMetric', max_depth=10.0)
"""
        )
        return path

    return write, tmp_path


def test_browse__statistics_of_every_set(browse, two_sets):
    code, text, out = browse(two_sets[0]())
    assert code == 0, text
    blocks = text.out.split('val: near')
    assert 'train: near, 4 samples' in blocks[0]
    assert 'train: far, 4 samples' in blocks[0]
    assert text.out.count('25.0 % of the pixels without depth') == 3
    assert 'from 2 to 2 m' in blocks[0] and 'from 8 to 8 m' in blocks[0]
    assert re.search(r'100\.0 % #{40}', text.out)
    page = (out / 'report.html').read_text()
    assert page.count('<img') == 3 * 4 + 1
    pictures = sorted((out / 'report_files').glob('*.png'))
    assert len(pictures) == 13
    # image, truth and overlay beside each other
    assert Image.open(pictures[0]).size[0] > 3 * 200


def test_browse__raw_leaves_the_augmentation_out(browse, two_sets):
    more = """
    dict(type='mmdense.RandomScaleDepth', scale_range=(2.0, 2.0)),"""
    config = two_sets[0](more=more)
    words = ('--pictures', '0', '--num', '1')
    code, text, _ = browse(config, *words)
    assert code == 0
    assert 'from 1 to 1 m' in text.out and 'from 4 to 4 m' in text.out
    code, text, out = browse(config, '--raw', *words)
    assert code == 0
    assert 'from 2 to 2 m' in text.out and 'from 8 to 8 m' in text.out
    # the curves alone
    assert len(list((out / 'report_files').glob('*.png'))) == 1


def test_browse__bad_files_are_named(browse, two_sets):
    write, root = two_sets
    config = write()
    (root / 'far/depth/1.png').write_bytes(b'x' * 50)
    image = np.zeros((*SIZE, 3), np.uint8)
    Image.fromarray(image).save(root / 'far/depth/2.png')
    Image.fromarray(np.zeros(SIZE, np.uint16)).save(root / 'far/depth/3.png')
    code, text, _ = browse(config)
    assert code == 1
    assert '3 samples cannot be used' in text.out
    for name in ('far/depth/1.png', 'far/depth/2.png', 'far/'):
        assert str(root / name) in text.out


def test_browse__a_set_that_is_not_there(browse, two_sets):
    write, root = two_sets
    config = write()
    (root / 'far').rename(root / 'gone')
    code, text, _ = browse(config)
    assert code == 1
    assert 'train: far, 0 samples' in text.out
    assert 'no such folder' in text.out
    assert 'train: near, 4 samples' in text.out


def test_browse__wrong_unit_names_the_factor(browse, two_sets):
    code, text, out = browse(two_sets[0](1.0))
    assert code == 0
    assert 'WARNING: the median depth is 2000 m' in text.out.replace(',', '')
    assert 'suspected factor: 1/1000' in text.out
    assert 'suspected factor' in (out / 'report.html').read_text()


def _scores(text):
    lines = re.findall(r'constant ([\d.]+) m \((.*)\):\n +(\{.*\})', text)
    return {name: (float(c), json.loads(s)) for c, name, s in lines}


def test_browse__baselines_are_those_of_constant_maps(browse, two_sets):
    code, text, out = browse(two_sets[0](), '--baseline')
    assert code == 0, text
    scores = _scores(text.out)
    median, best = scores['training median'], scores['best d1 in training']
    # images weigh the same: half of the pixels at 2 m, half at 8 m
    assert median[0] == pytest.approx(2, rel=0.003)
    assert median[1]['depth/abs_rel'] == pytest.approx(0, abs=0.003)
    assert median[1]['depth/d1'] == 1
    value = best[0]
    assert best[1]['depth/abs_rel'] == pytest.approx(
        abs(value - 2) / 2, abs=1e-3
    )
    assert median[1]['depth/images'] == 4
    assert 'Constant depths' in (out / 'report.html').read_text()


def test_browse__baseline_of_the_rooms_equals_a_loop(browse, monkeypatch):
    monkeypatch.chdir(ROOT)
    code, text, _ = browse(
        ROOMS, '--baseline', '--num', '3', '--pictures', '0', '--raw'
    )
    assert code == 0, text
    value, scores = _scores(text.out)['training median']
    errors, close = [], []
    for path in sorted((ROOT / 'demo/data/rooms/depth/val').glob('*.png')):
        depth = np.asarray(Image.open(path)).astype(np.float64) / 1000
        depth = depth[(depth > 1e-3) & (depth < 10)]
        errors.append((np.abs(depth - value) / depth).mean())
        ratio = np.maximum(depth / value, value / depth)
        close.append((ratio < 1.25).mean())
    assert scores['depth/abs_rel'] == pytest.approx(np.mean(errors), abs=1e-3)
    assert scores['depth/d1'] == pytest.approx(np.mean(close), abs=2e-3)


@pytest.mark.parametrize(
    'words, match',
    [
        (['--num', '0'], '--num has to be at least 1'),
        (['--split', 'test'], 'has no data loader for test'),
        (['--split', 'val', '--baseline'], '--split has to name train'),
    ],
)
def test_browse__wrong_calls(browse, two_sets, words, match):
    code, text, _ = browse(two_sets[0](), *words)
    assert code == 2
    assert match in text.err


def test_browse__config_without_depth(browse, tmp_path):
    path = tmp_path / 'a.py'
    path.write_text('model = dict()\n')
    code, text, _ = browse(path)
    assert code == 2 and 'has no data loader' in text.err
    code, text, _ = browse(tmp_path / 'b.py')
    assert code == 2 and 'No config file' in text.err


def test_browse__baseline_passes_over_bad_files(browse, two_sets):
    write, root = two_sets
    config = write()
    bad = root / 'near/depth/1.png'
    bad.write_bytes(b'x' * 50)
    code, text, out = browse(config, '--baseline')
    assert code == 1
    assert '1 samples cannot be used and were not scored' in text.out
    scores = _scores(text.out)['best d1 in training'][1]
    assert scores['depth/images'] == 3
    page = (out / 'report.html').read_text()
    assert 'Constant depths' in page and 'were not scored' in page


def test_browse__a_failing_baseline_costs_no_report(browse, two_sets):
    write, root = two_sets
    config = write()
    for path in (root / 'near/depth').glob('*.png'):
        path.write_bytes(b'x' * 50)
    code, text, out = browse(config, '--baseline')
    assert code == 2
    assert 'no sample of val_dataloader can be used' in text.err
    assert 'near/depth/' in text.err
    assert 'train: far' in (out / 'report.html').read_text()


def test_browse__mistakes_are_explained(browse, two_sets, tmp_path):
    config = two_sets[0]()
    code, text, _ = browse(
        config, '--cfg-options', 'val_dataloader.dataset.typo=1'
    )
    assert code == 2
    assert 'val_dataloader.dataset (mmdense.DepthFolder)' in text.err
    assert 'typo' in text.err
    (tmp_path / 'file').write_text('')
    code, text, _ = browse(config, '--out', tmp_path / 'file' / 'x')
    assert code == 2 and 'file is a file, not a folder' in text.err


def test_browse__config_of_segmentation_is_refused_at_once(browse):
    config = next(ROOT.glob('configs/local_global/benchmarks/linear_*demo*'))
    code, text, out = browse(config)
    assert code == 2 and 'loads depth' in text.err
    assert not text.out and not out.exists()
