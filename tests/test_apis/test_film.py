"""Films in, depth and films out, with a model that copies what it sees."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmdense.apis.inference.depth import DepthInference
from mmdense.apis.inference.depth_files import read_depth
from mmdense.apis.inference.depth_writer import DepthWriter
from mmdense.apis.inference.video import Film, FilmWriter, infer_film
from mmdense.utils.errors import UserValueError

FRAMES = 12


class _Model:
    """Depth is the brightness, frame by frame; no network."""

    kind, unit = 'metric', 'metre'

    def __init__(self, fails=()):
        self.cfg = Config(
            dict(model=dict(type='Stub'), test_dataloader=dict())
        )
        self.settings = dict(weights='none.pth', flip=False)
        self.fails = fails
        self.seen = 0

    def predict(self, inputs, batch_size, on_skip):
        for position, item in enumerate(inputs):
            array = isinstance(item, np.ndarray)
            name = f'array {position}' if array else str(item)
            image = item if array else cv2.imread(name)
            if position in self.fails or image is None:
                on_skip(name, 'failed')
                continue
            self.seen += 1
            depth = image.mean(2).astype(np.float32) / 25 + 1
            yield DepthInference(
                position, name, depth, image[..., ::-1], self.kind, self.unit
            )


def _pictures(size=(48, 64)):
    """Frames of rising brightness; each row a little darker."""
    rows = np.linspace(40, 0, size[0])[:, None, None]
    for index in range(FRAMES):
        frame = np.full((*size, 3), 60 + 10 * index) + rows
        yield frame.astype(np.uint8)


@pytest.fixture
def film(tmp_path):
    path = tmp_path / 'in' / 'clip.mp4'
    with FilmWriter(path, 12.5) as writer:
        for picture in _pictures():
            writer.write(picture)
    return path


def _read(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        good, frame = capture.read()
        if not good:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(frame[..., ::-1])


def test_film__round_trip(film):
    found = Film(film)
    assert (found.fps, found.count) == (12.5, FRAMES)
    frames = list(found)
    assert len(frames) == len(list(found)) == FRAMES
    for frame, picture in zip(frames, _pictures()):
        assert frame.shape == picture.shape
        # the codec loses something
        assert np.abs(frame.mean() - picture.mean()) < 5
    assert found.complaint(FRAMES) == ''
    assert Film(film, fps=5).fps == 5


def test_film_writer__odd_sizes_and_failures(tmp_path):
    path = tmp_path / 'odd.mp4'
    with FilmWriter(path, 10) as writer:
        writer.write(np.full((33, 45, 3), 99, np.uint8))
        writer.write(np.full((70, 91, 3), 99, np.uint8))
    frames, fps = _read(path)
    assert fps == 10 and [f.shape for f in frames] == [(34, 46, 3)] * 2
    with pytest.raises(KeyboardInterrupt), FilmWriter(path, 10) as writer:
        writer.write(np.zeros((33, 45, 3), np.uint8))
        raise KeyboardInterrupt
    # the one before is still there
    assert abs(int(_read(path)[0][0][0, 0, 0]) - 99) < 5
    assert [p.name for p in tmp_path.iterdir()] == ['odd.mp4']


def test_film__folder_in_natural_order(tmp_path):
    for index in (10, 2, 1):
        cv2.imwrite(
            str(tmp_path / f'f{index}.png'),
            np.full((8, 8, 3), index, np.uint8),
        )
    found = Film(tmp_path)
    names = [Path(path).name for path in found]
    assert names == ['f1.png', 'f2.png', 'f10.png']
    assert (found.count, found.fps) == (3, 25)
    (tmp_path / 'none').mkdir()
    with pytest.raises(UserValueError, match='no frames'):
        Film(tmp_path / 'none')


def test_film__broken_files_are_named(film, tmp_path):
    cut = tmp_path / 'cut.mp4'
    cut.write_bytes(film.read_bytes()[:300])
    with pytest.raises(UserValueError, match=r'cut\.mp4 \(300 bytes\)'):
        Film(cut)
    with pytest.raises(UserValueError, match='No film at'):
        Film(tmp_path / 'missing.mp4')
    # second half of the pictures wiped out
    content = bytearray(film.read_bytes())
    start, end = content.find(b'mdat') + 4, content.find(b'moov') - 4
    middle = start + (end - start) // 2
    content[middle:end] = bytes(end - middle)
    cut.write_bytes(content)
    found = Film(cut)
    read = len(list(found))
    assert 0 < read < FRAMES - 2
    words = f'only {read} of its {FRAMES} frames'
    assert words in found.complaint(read)


@pytest.mark.parametrize('scaling', ['film', 'running'])
def test_infer_film__depth_and_colours(film, tmp_path, scaling):
    model = _Model()
    writer = DepthWriter(tmp_path / 'out', model, panel=False)
    ticks = []
    entry = infer_film(
        *(model, writer, Film(film), 'clip', 2, scaling),
        on_frame=lambda: ticks.append(1),
    )
    assert len(ticks) == entry['frames'] == entry['predicted'] == FRAMES
    assert entry['complaint'] == '' and entry['fps'] == 12.5
    index = json.loads(writer.close().read_text())
    assert index['films'] == {'clip': entry}
    means = []
    for number, picture in enumerate(_pictures()):
        path = tmp_path / 'out' / 'depth' / 'clip' / f'{number:06d}.png'
        depth = read_depth(path)[0]
        assert depth.shape == (48, 64)
        expected = picture.mean(2) / 25 + 1
        assert np.abs(depth - expected).max() < 0.3
        means.append(depth.mean())
        assert index['images'][f'clip/{number:06d}']['input'] == str(film)
    frames, fps = _read(tmp_path / 'out' / 'vis' / 'clip.mp4')
    assert fps == 12.5 and len(frames) == FRAMES
    red = [float(f[..., 0].mean() - f[..., 2].mean()) for f in frames]
    if scaling == 'film':
        # one range: what comes nearer gets warmer
        assert entry['low'] < means[0] < means[-1] < entry['high']
        assert red[0] > 60 and red[-1] < -10
    else:
        assert 'low' not in entry
        # the first frame fills the colours by itself
        assert abs(red[0]) < 60


def test_infer_film__frames_that_fail_are_named(film, tmp_path):
    model, skipped = _Model(fails=(0, 4)), []
    writer = DepthWriter(tmp_path / 'out', model, save=['color'], panel=True)
    entry = infer_film(
        *(model, writer, Film(film), 'clip'),
        on_skip=lambda *what: skipped.append(what),
    )
    assert skipped == [
        (f'{film}, frame 0', 'failed'),
        (f'{film}, frame 4', 'failed'),
    ]
    assert (entry['frames'], entry['predicted']) == (FRAMES, FRAMES - 2)
    frames, _ = _read(tmp_path / 'out' / 'vis' / 'clip.mp4')
    # none before the first, the one before for the other
    assert len(frames) == FRAMES - 1
    gap = np.abs(frames[3].astype(int) - frames[2].astype(int))
    assert gap.mean() < 2
    # panels: image and colours
    assert frames[0].shape[1] > 2 * 200
    every = _Model(fails=range(FRAMES))
    with pytest.raises(UserValueError, match='no frame could be predicted'):
        infer_film(every, writer, Film(film), 'other', 1, 'film', lambda *_: 0)
    with pytest.raises(UserValueError, match='scaling'):
        infer_film(model, writer, Film(film), 'clip', scaling='sometimes')


def test_infer_film__goes_on_where_it_stopped(film, tmp_path):
    out, stop = tmp_path / 'out', SimpleNamespace(count=0)

    def tick():
        stop.count += 1
        if stop.count == 5:
            raise KeyboardInterrupt

    model = _Model()
    writer = DepthWriter(out, model)
    with pytest.raises(KeyboardInterrupt):
        infer_film(model, writer, Film(film), 'clip', on_frame=tick)
    writer.close()
    assert not (out / 'vis' / 'clip.mp4').exists()
    model = _Model()
    writer = DepthWriter(out, model, resume=True)
    entry = infer_film(model, writer, Film(film), 'clip')
    assert (entry['kept'], entry['predicted'], model.seen) == (5, 7, 7)
    assert len(_read(out / 'vis' / 'clip.mp4')[0]) == FRAMES


def test_infer_film__folder_of_frames(tmp_path):
    folder = tmp_path / 'frames'
    folder.mkdir()
    for index, picture in enumerate(_pictures()):
        cv2.imwrite(str(folder / f'{index}.png'), picture)
    (folder / '3.png').write_bytes(b'nothing')
    model, skipped = _Model(), []
    writer = DepthWriter(tmp_path / 'out', model, ['npy', 'color'], panel=True)
    entry = infer_film(
        *(model, writer, Film(folder, 8), 'clip'),
        on_skip=lambda *what: skipped.append(what),
    )
    assert skipped == [(str(folder / '3.png'), 'failed')]
    assert entry['predicted'] == FRAMES - 1
    frames, fps = _read(tmp_path / 'out' / 'vis' / 'clip.mp4')
    assert fps == 8 and len(frames) == FRAMES
    depth = np.load(tmp_path / 'out' / 'depth' / 'clip' / '000011.npy')
    assert np.array_equal(depth, picture.mean(2).astype(np.float32) / 25 + 1)


def test_writer__resumes_what_is_the_same(tmp_path):
    out, image = tmp_path / 'out', tmp_path / 'a.png'
    picture = next(_pictures())
    cv2.imwrite(str(image), picture)
    model = _Model()
    found = next(model.predict([str(image)], 1, None))
    writer = DepthWriter(out, model)
    assert not writer.done(image, 'a')
    entry = writer.write(found, 'a')
    assert entry['size'] == [48, 64] and entry['png']['scale'] == 1000
    writer.close()
    assert DepthWriter(out, model, resume=True).done(image, 'a')
    # without being asked, everything is predicted anew
    assert not DepthWriter(out, model).done(image, 'a')
    # a format that is not there yet
    more = DepthWriter(out, model, ['png', 'npy'], resume=True)
    assert not more.done(image, 'a')
    with pytest.raises(UserValueError, match='scale=1000, not 256'):
        DepthWriter(out, model, scale=256, resume=True)
    other = _Model()
    other.settings['flip'] = True
    with pytest.raises(UserValueError, match='flip=False, not True'):
        DepthWriter(out, other, resume=True)
    again = DepthWriter(out, model, resume=True)
    (out / 'vis' / 'a.png').unlink()
    assert not again.done(image, 'a')
    again.write(found, 'a')
    newer = image.stat().st_mtime + 100
    os.utime(image, (newer, newer))
    assert not again.done(image, 'a')
    (out / 'depth.json').write_text('{')
    with pytest.raises(UserValueError, match='cannot be read'):
        DepthWriter(out, model, resume=True)


def test_writer__settings_that_do_not_go_together(tmp_path):
    model = _Model()
    for settings, words in [
        (dict(save=['jpg']), 'jpg'),
        (dict(save=[]), 'choose from'),
        (dict(scale=0), 'scale=0'),
        (dict(limits=(3, 1)), 'lower end first'),
        (dict(save=['ply']), '--focal'),
    ]:
        with pytest.raises(UserValueError, match=words):
            DepthWriter(tmp_path, model, **settings)
    model.kind, model.unit = 'relative', None
    with pytest.raises(UserValueError, match='inverse relative'):
        DepthWriter(tmp_path, model, ['ply'], fov=60.0)
