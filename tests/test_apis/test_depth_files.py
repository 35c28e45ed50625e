"""Depth in files: what is written is what can be read."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdense.apis.inference.depth_files import (
    camera_of,
    encode_depth,
    limits_of,
    paint,
    read_depth,
    write_cloud,
    write_depth_png,
    write_npy,
    write_picture,
    written,
)
from mmdense.utils.errors import UserValueError


def _depth(high=60.0):
    generator = np.random.default_rng(0)
    depth = generator.uniform(0.1, high, (37, 53)).astype(np.float32)
    depth[:3] = 0
    return depth


@pytest.mark.parametrize('scale,high', [(1000, 60), (256, 250)])
def test_png__metric_depth_to_half_a_unit(tmp_path, scale, high):
    path, depth = tmp_path / 'a' / 'd.png', _depth(high)
    meta = write_depth_png(path, depth, 'metric', scale)
    assert meta['scale'] == scale and meta['clipped'] == 0
    # as any program reads it
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16 and stored.shape == depth.shape
    error = np.abs(stored.astype(np.float64) / scale - depth)
    assert error.max() <= 0.5 / scale * (1 + 1e-6)
    assert (stored[:3] == 0).all() and stored[3:].min() > 0
    found, again = read_depth(path)
    assert again == meta and found.dtype == np.float32
    np.testing.assert_allclose(found, stored / scale, rtol=1e-6)
    assert not list(tmp_path.rglob('.*'))


def test_png__too_far_is_clipped_and_counted():
    depth = np.array([[1.0, 65.535], [65.54, 80.0]], np.float32)
    stored, meta = encode_depth(depth, 'metric', 1000)
    assert stored.tolist() == [[1000, 65535], [65535, 65535]]
    assert meta['clipped'] == 2


def test_png__relative_depth_fills_the_range(tmp_path):
    path = tmp_path / 'r.png'
    depth = _depth() - 20
    meta = write_depth_png(path, depth, 'relative')
    low, high = float(depth.min()), float(depth.max())
    assert (meta['min'], meta['max'], meta['unit']) == (low, high, None)
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored.min() == 0 and stored.max() == 65535
    step = (high - low) / 65535
    found = read_depth(path)[0]
    assert np.abs(found - depth).max() <= 0.5 * step + 1e-5
    flat = np.full((4, 5), 2.5, np.float32)
    stored, meta = encode_depth(flat, 'relative', 1)
    assert stored.max() == 0 and meta['min'] == meta['max'] == 2.5
    write_depth_png(path, flat, 'relative')
    assert np.array_equal(read_depth(path)[0], flat)


def test_png__infinite_depth_is_refused():
    with pytest.raises(ValueError, match='not finite'):
        encode_depth(np.array([[1, np.inf]], np.float32), 'metric', 1000)


def test_npy__is_exact(tmp_path):
    write_npy(tmp_path / 'd.npy', _depth())
    assert np.array_equal(read_depth(tmp_path / 'd.npy')[0], _depth())


def test_read_depth__other_files(tmp_path):
    Image.new('I;16', (4, 4)).save(tmp_path / 'plain.png')
    (tmp_path / 'text.npy').write_text('no array')
    for name in ('plain.png', 'text.npy', 'missing.png'):
        with pytest.raises(UserValueError, match=name):
            read_depth(tmp_path / name)


def test_written__an_interrupted_file_is_not_there(tmp_path):
    path = tmp_path / 'd.png'
    path.write_text('old')

    def fails(part):
        part.write_text('half')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(path, fails)
    assert path.read_text() == 'old'
    assert [p.name for p in tmp_path.iterdir()] == ['d.png']


@pytest.mark.parametrize('kind', ['metric', 'relative'])
def test_paint__near_is_warm(kind, tmp_path):
    near, far = (1.0, 5.0) if kind == 'metric' else (5.0, 1.0)
    depth = np.full((32, 40), far, np.float32)
    depth[:, :20] = near
    assert limits_of(depth, kind) == (1, 5)
    drawn = paint(depth, kind).astype(int)
    assert drawn.shape == (32, 40, 3)
    assert drawn[0, 0, 0] > drawn[0, 0, 2] and drawn[0, 39, 0] < 100
    # a range given moves the colours
    assert (paint(depth, kind, (0.5, 20.0)) != drawn).any()
    image = np.full((32, 40, 3), 77, np.uint8)
    panel = paint(depth, kind, None, image, panel=True)
    assert panel.shape[0] >= 32 and panel.shape[1] > 2 * panel.shape[0]
    # its colours keep to the range, too
    wide = paint(depth, kind, (0.5, 20.0), image, panel=True)
    width = min(wide.shape[1], panel.shape[1])
    assert (wide[:, :width] != panel[:, :width]).mean() > 0.05
    write_picture(tmp_path / 'c.jpg', panel)
    assert Image.open(tmp_path / 'c.jpg').size == panel.shape[1::-1]


def test_cloud__points_of_a_plain_loop(tmp_path):
    depth = np.array([[2.0, 0.0, 3.0], [1.0, 4.0, 2.0]], np.float32)
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    camera = camera_of((2, 3), focal=50.0)
    path = tmp_path / 'c.ply'
    assert write_cloud(path, depth, image, camera) == 5
    content = path.read_bytes()
    end = content.index(b'end_header\n') + len(b'end_header\n')
    kind = [*((n, '<f4') for n in 'xyz'), *((n, 'u1') for n in 'rgb')]
    rows = np.frombuffer(content[end:], kind)
    expected = []
    for y in range(2):
        for x in range(3):
            z = float(depth[y, x])
            if z > 0:
                point = [(x - 1) * z / 50, (y - 0.5) * z / 50, z]
                expected.append([*point, *image[y, x].tolist()])
    np.testing.assert_allclose(rows.tolist(), expected, rtol=1e-6)


def test_camera__field_of_view():
    camera = camera_of((100, 200), fov=90)
    assert camera[0, 0] == camera[1, 1] == pytest.approx(100)
    for settings in ({}, dict(focal=1.0, fov=1.0)):
        with pytest.raises(UserValueError, match='--focal'):
            camera_of((10, 10), **settings)
    with pytest.raises(UserValueError, match='focal=-1'):
        camera_of((10, 10), focal=-1.0)
    with pytest.raises(UserValueError, match='fov'):
        camera_of((10, 10), fov=180.0)


def test_png__says_itself_how_to_read_it(tmp_path):
    write_depth_png(tmp_path / 'd.png', _depth(), 'metric', 1000)
    with Image.open(tmp_path / 'd.png') as image:
        meta = json.loads(image.text['mmdense-depth'])
    assert meta['unit'] == 'metre' and meta['scale'] == 1000
