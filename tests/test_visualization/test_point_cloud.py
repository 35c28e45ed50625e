import numpy as np
import pytest

from mmdense.utils.errors import UserValueError
from mmdense.visualization import point_cloud
from mmdense.visualization.depth import valid_depth
from mmdense.visualization.point_cloud import backproject, pinhole, write_ply

FX, FY, CX, CY = 50.0, 40.0, 7.5, 4.0


def read_ply(path):
    """Vertices of a PLY file as its header describes them."""
    data = path.read_bytes()
    head, _, body = data.partition(b'end_header\n')
    lines = head.decode('ascii').splitlines()
    assert lines[0] == 'ply'
    assert lines[1] == 'format binary_little_endian 1.0'
    number = int(lines[2].split()[2])
    kinds = {'float': '<f4', 'uchar': 'u1'}
    fields = [
        (line.split()[2], kinds[line.split()[1]])
        for line in lines[3:]
        if line.startswith('property')
    ]
    rows = np.frombuffer(body, fields)
    assert len(rows) == number
    return rows


def test_backproject__equals_a_loop():
    rng = np.random.RandomState(0)
    depth = rng.rand(9, 16).astype(np.float32) * 5
    depth[2, 3], depth[4, 5], depth[6, 7] = 0, np.nan, -1
    expected = []
    for v in range(9):
        for u in range(16):
            z = depth[v, u]
            if np.isfinite(z) and z > 0:
                expected.append([(u - CX) * z / FX, (v - CY) * z / FY, z])
    points = backproject(depth[None], (FX, FY, CX, CY))
    np.testing.assert_allclose(points, expected, rtol=1e-6)
    matrix = [[FX, 0, CX], [0, FY, CY], [0, 0, 1]]
    np.testing.assert_array_equal(points, backproject(depth, matrix))
    # projected again, every point falls on its pixel
    u = points[:, 0] / points[:, 2] * FX + CX
    v = points[:, 1] / points[:, 2] * FY + CY
    rows, cols = np.nonzero(valid_depth(depth))
    np.testing.assert_allclose(u, cols, atol=1e-4)
    np.testing.assert_allclose(v, rows, atol=1e-4)


def test_pinhole__the_edges_see_half_the_angle():
    camera = pinhole((480, 640), 90)
    assert camera[0, 0] == camera[1, 1] == pytest.approx(320)
    points = backproject(np.ones((480, 640)), camera)
    np.testing.assert_allclose(points.mean(axis=0), [0, 0, 1], atol=1e-6)


@pytest.mark.parametrize(
    'camera, match',
    [
        ((1, 2, 3), r'shape \(3,\)'),
        ((0, 1, 0, 0), 'focal lengths'),
        ([[1, 5, 0], [0, 1, 0], [0, 0, 1]], 'of the form'),
    ],
)
def test_backproject__wrong_camera(camera, match):
    with pytest.raises(UserValueError, match=match):
        backproject(np.ones((2, 2)), camera)


@pytest.mark.parametrize('colored', [False, True])
def test_write_ply__read_back(tmp_path, monkeypatch, colored):
    monkeypatch.setattr(point_cloud, '_CHUNK', 7)
    rng = np.random.RandomState(0)
    points = rng.randn(23, 3)
    colors = rng.randint(0, 256, (23, 3)).astype(np.uint8)
    path = tmp_path / 'new' / 'a.ply'
    write_ply(path, points, colors if colored else None)
    rows = read_ply(path)
    found = np.stack([rows[n] for n in 'xyz'], axis=1)
    np.testing.assert_array_equal(found, points.astype(np.float32))
    if colored:
        found = np.stack([rows[n] for n in ('red', 'green', 'blue')], axis=1)
        np.testing.assert_array_equal(found, colors)
    assert [p.name for p in path.parent.iterdir()] == ['a.ply']


def test_write_ply__empty(tmp_path):
    write_ply(tmp_path / 'a.ply', np.zeros((0, 3)))
    assert len(read_ply(tmp_path / 'a.ply')) == 0


def test_write_ply__wrong_arguments(tmp_path):
    with pytest.raises(UserValueError, match=r'not \(N, 3\)'):
        write_ply(tmp_path / 'a.ply', np.zeros((4, 2)))
    with pytest.raises(UserValueError, match='give uint8'):
        write_ply(tmp_path / 'a.ply', np.zeros((4, 3)), np.zeros((4, 3)))
    with pytest.raises(UserValueError, match='give uint8'):
        write_ply(
            tmp_path / 'a.ply', np.zeros((4, 3)), np.zeros((3, 3), np.uint8)
        )
    assert not list(tmp_path.iterdir())
