"""What depth.json says after several calls."""

import json
import os

import numpy as np
import pytest
from mmengine.config import Config

from mmdense.apis.inference.depth import DepthInference
from mmdense.apis.inference.depth_writer import DepthWriter
from mmdense.utils.errors import UserValueError


class _Model:
    kind, unit = 'metric', 'metre'

    def __init__(self, flip=False):
        model = dict(type='Stub')
        self.cfg = Config(dict(model=model, test_dataloader=dict()))
        self.settings = dict(weights='none.pth', flip=flip, tile=(8, 8))


@pytest.fixture
def call(tmp_path):
    """One call of the tool; gives the index that it leaves."""
    for name in 'ab':
        (tmp_path / f'{name}.png').write_text('an image')
        os.utime(tmp_path / f'{name}.png', (1e9, 1e9))

    def call(names, save=('png', 'color'), flip=False, **options):
        writer = DepthWriter(tmp_path, _Model(flip), save, **options)
        for name in names:
            path = tmp_path / f'{name}.png'
            depth = np.full((4, 6), 2.0, np.float32)
            image = np.zeros((4, 6, 3), np.uint8)
            if not writer.done(path, name):
                writer.write(
                    DepthInference(0, str(path), depth, image, 'metric', 'm'),
                    name,
                )
        return json.loads(writer.close().read_text())

    return call


def _kinds(index):
    return {
        name: {'png', 'npy', 'color', 'ply'} & set(entry)
        for name, entry in index['images'].items()
    }


@pytest.mark.parametrize('resume', [True, False])
def test_index__other_formats_are_added(call, resume):
    call('a')
    index = call('a', ['npy'], resume=resume)
    assert _kinds(index) == {'a': {'png', 'color', 'npy'}}
    assert index['images']['a']['png']['scale'] == 1000
    assert 'earlier' not in index


def test_index__other_images_are_kept(call):
    call('a')
    index = call('b')
    assert _kinds(index) == dict.fromkeys('ab', {'png', 'color'})


def test_index__of_files_that_are_gone_or_old(call, tmp_path):
    call('a')
    (tmp_path / 'vis' / 'a.png').unlink()
    assert _kinds(call('a', ['npy'])) == {'a': {'png', 'npy'}}
    # another image of that name
    later = os.stat(tmp_path / 'depth' / 'a.png').st_mtime + 100
    os.utime(tmp_path / 'a.png', (later, later))
    assert _kinds(call('a', ['npy'])) == {'a': {'npy'}}


def test_index__results_of_other_settings_keep_theirs(call):
    call('ab', scale=256)
    index = call('a', ['png'])
    assert _kinds(index) == {'a': {'png'}}
    assert index['output']['scale'] == 1000
    (earlier,) = index['earlier']
    assert earlier['output']['scale'] == 256
    # the new PNG took the place of the old one
    assert _kinds(earlier) == {'a': {'color'}, 'b': {'png', 'color'}}
    assert earlier['images']['b']['png']['scale'] == 256
    index = call('b', scale=256)
    assert _kinds(index) == {'a': {'color'}, 'b': {'png', 'color'}}
    assert [_kinds(group) for group in index['earlier']] == [{'a': {'png'}}]
    index = call('a', flip=True)
    index = call('b', flip=True)
    assert 'earlier' not in index


def test_index__films_are_kept(call, tmp_path):
    for name, flip in (('x', False), ('y', False), ('x', True)):
        writer = DepthWriter(tmp_path, _Model(flip))
        writer.note(name, dict(flip=flip))
        index = json.loads(writer.close().read_text())
    assert index['films'] == {'x': {'flip': True}}
    assert index['earlier'][0]['films'] == {'y': {'flip': False}}


def test_index__that_is_broken(call, tmp_path):
    (tmp_path / 'depth.json').write_text('{"images": ')
    with pytest.raises(UserValueError, match='nothing can be resumed'):
        call('a', resume=True)
    assert _kinds(call('a')) == {'a': {'png', 'color'}}
