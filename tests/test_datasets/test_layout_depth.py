"""Defects of depth sets, each seen to be named with its file."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from mmdense.datasets.layouts import LAYOUTS, check_dataset, depth_layout
from mmdense.datasets.layouts.depth_files import (
    read_depth,
    read_dpt,
    read_float32,
)
from mmdense.registry import toolbox_installed
from mmdense.utils.errors import UserValueError

NUMBER = 4
SIZE = (12, 16)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n')


def image(path, size=SIZE):
    save(path, np.zeros((*size, 3), np.uint8))


def depth(path, value=3000, size=SIZE):
    save(path, np.full(size, value, np.uint16))


def said(report, code):
    found = [f for f in report.findings if f.code == code]
    assert found, f'no {code!r} in {report.lines()}'
    return ' '.join(' '.join([f.text, f.fix, *f.examples]) for f in found)


@pytest.fixture
def own(tmp_path):
    """Own images and maps; checks them."""
    for i in range(NUMBER):
        image(tmp_path / 'images' / f'{i}.jpg')
        depth(tmp_path / 'depth' / f'{i}.png')

    def call(**kwargs):
        layout = depth_layout('images', 'depth', **kwargs)
        return check_dataset(layout, str(tmp_path))

    assert call().findings == []
    return call


def test_own__eight_bits_and_colour(own, tmp_path):
    save(tmp_path / 'depth/1.png', np.full(SIZE, 7, np.uint8))
    image(tmp_path / 'depth/2.png')
    report = own()
    text = said(report, 'no depth')
    assert '2 of 4' in text and '1.png: 8 bits' in text
    assert '2.png: RGB' in text
    assert not report.ok
    # of unknown scale, 8 bits are read, colours are not
    text = said(own(scale=0), 'no depth')
    assert '1 of 4' in text and '2.png' in text


def test_own__all_invalid_and_other_size(own, tmp_path):
    depth(tmp_path / 'depth/0.png', 0)
    depth(tmp_path / 'depth/3.png', 3000, (12, 15))
    report = own()
    assert report.of('warning') and '0.png' in said(report, 'all invalid')
    text = said(report, 'size mismatch')
    assert '3.png: image 16x12, depth map 15x12' in text
    for i in range(1, 3):
        depth(tmp_path / f'depth/{i}.png', 0)
    assert 'all invalid' in own().codes('error')


def test_own__missing_and_truncated(own, tmp_path):
    os.remove(tmp_path / 'depth/0.png')
    big = np.random.RandomState(0).randint(1, 60000, (200, 200))
    for name in ('images/1.jpg', 'depth/1.png'):
        path = tmp_path / name
        array = big.astype(np.uint16)
        if name.startswith('images'):
            array = np.stack([big % 256] * 3, axis=-1).astype(np.uint8)
        save(path, array)
        path.write_bytes(path.read_bytes()[:2000])
    report = own()
    assert '0.png' in said(report, 'no depth map')
    text = said(report, 'broken picture')
    assert '1.jpg' in text and '1.png' in text
    assert 'depth maps cannot be read' in text


@pytest.mark.parametrize(
    'stored, scale, factor',
    [
        (3000, 1.0, '1/1000'),
        (3000, 1e-3, None),
        (5000, 1e-6, '1000'),
    ],
)
def test_own__wrong_unit_names_the_factor(
    own, tmp_path, stored, scale, factor
):
    for i in range(NUMBER):
        depth(tmp_path / f'depth/{i}.png', stored)
    report = own(scale=scale)
    assert report.ok
    if factor is None:
        assert report.findings == []
        return
    text = said(report, 'unit')
    assert f'{stored * scale:.4g} m' in text
    if toolbox_installed('mmseg'):
        assert f'Suspected factor: {factor}' in text
    assert own(scale=0).findings == []


def test_own__arguments():
    with pytest.raises(UserValueError, match='--scale -1'):
        depth_layout('a', 'b', scale=-1)
    with pytest.raises(UserValueError, match='depth maps'):
        depth_layout('a', 'b', depth_suffix='')


def test_npy__maps(tmp_path):
    path = tmp_path / 'a.npy'
    array = np.full(SIZE, 2.0, np.float32)
    array[0, :3] = np.nan, np.inf, -1
    np.save(path, array)
    found = read_depth(str(path), 1.0)
    assert (found.size, found.median, found.error) == (SIZE, 2.0, '')
    path.write_bytes(path.read_bytes()[:200])
    assert 'cannot be read' in read_depth(str(path), 1.0).error
    np.save(path, np.zeros((3, 4, 5)))
    assert '(3, 4, 5)' in read_depth(str(path), 1.0).form
    assert read_depth(str(tmp_path / 'b.npy'), 1.0).error == 'missing'


@pytest.fixture
def kitti(tmp_path):
    lines = []
    for i in range(NUMBER):
        name = f'2011_09_26/drive_{i}/image_02/data/1.png'
        image(tmp_path / 'raw' / name)
        below = f'drive_{i}/proj_depth/groundtruth/image_02/1.png'
        part = ('train', 'val')[i % 2]
        depth(tmp_path / 'data_depth_annotated' / part / below, 256 * 20)
        lines.append(f'{name} {below} 721.5')
    return tmp_path, lines


def run_kitti(kitti, lines):
    root, _ = kitti
    write(root / 'kitti_eigen_test.txt', *lines)
    return check_dataset(
        'kitti-eigen', str(root), splits=['test'], counts='any'
    )


def test_list__none_entries_are_counted(kitti):
    lines = [*kitti[1], 'a/b.png None 721.5', '', 'a/c.png None 721.5']
    report = run_kitti(kitti, lines)
    assert report.findings == [], report.lines()
    assert report.counts['test.list.without depth']['found'] == 2
    assert report.counts['test.list.lines with depth']['found'] == NUMBER
    assert report.opened['test.list'] == 2 * NUMBER


def test_list__missing_entries_are_named(kitti):
    root, lines = kitti
    os.remove(root / 'raw/2011_09_26/drive_1/image_02/data/1.png')
    lines = [*lines, 'x/1.png drive_9/1.png 721.5']
    report = run_kitti(kitti, lines)
    text = said(report, 'no image')
    assert '2 of 5' in text and 'drive_1/image_02/data/1.png' in text
    text = said(report, 'no depth map')
    assert '1 of 5' in text and 'drive_9/1.png' in text


def test_list__images_may_be_jpg_and_depth_may_lie_flat(kitti):
    root, lines = kitti
    for i in range(NUMBER):
        folder = root / f'raw/2011_09_26/drive_{i}/image_02/data'
        os.rename(folder / '1.png', folder / '1.jpg')
        part = ('train', 'val')[i % 2]
        annotated = root / 'data_depth_annotated'
        os.rename(annotated / part / f'drive_{i}', annotated / f'drive_{i}')
    assert run_kitti(kitti, lines).findings == []


def test_list__malformed_lines(kitti):
    lines = [*kitti[1], 'one', 'a b c', 'a b 1 2']
    text = said(run_kitti(kitti, lines), 'list format')
    assert '3 lines' in text
    assert 'line 5: one' in text and 'line 6: a b c' in text


def test_list__unit_and_repeated_lines(kitti):
    root, lines = kitti
    for path in root.glob('data_depth_annotated/*/*/*/*/*/1.png'):
        # millimetres
        depth(path, 20000 * 3)
    report = run_kitti(kitti, [*lines, lines[0]])
    assert '234.4 m' in said(report, 'unit')
    assert '1 lines' in said(report, 'listed twice')


def test_cityscapes__cameras(tmp_path):
    good = dict(extrinsic=dict(baseline=0.2), intrinsic=dict(fx=2262.5))
    for i in range(NUMBER):
        name = f'train/aachen/{i}'
        image(tmp_path / f'leftImg8bit/{name}_leftImg8bit.png', (1024, 2048))
        path = tmp_path / f'disparity/{name}_disparity.png'
        depth(path, 1 + 256 * 20, (1024, 2048))
        path = tmp_path / f'camera/{name}_camera.json'
        write(path, json.dumps(good))

    def run():
        return check_dataset(
            'cityscapes-depth', str(tmp_path), splits=['train'], counts='any'
        )

    assert run().findings == [], run().lines()
    folder = tmp_path / 'camera/train/aachen'
    os.remove(folder / '0_camera.json')
    write(folder / '1_camera.json', '{"extrinsic": {}}')
    report = run()
    assert 'aachen/0_camera.json' in said(report, 'no camera')
    assert 'aachen/1_camera.json' in said(report, 'broken camera')
    # depth in centimetres: 0.2 m of baseline written as 20
    for i in range(1, NUMBER):
        bad = dict(extrinsic=dict(baseline=20.0), intrinsic=dict(fx=2262.5))
        write(folder / f'{i}_camera.json', json.dumps(bad))
    assert f'{20 * 2262.5 / 20:.4g} m' in said(run(), 'unit')


@pytest.fixture
def mat(tmp_path):
    h5py = pytest.importorskip('h5py')
    savemat = pytest.importorskip('scipy.io').savemat

    def call(images=(6, 3, 16, 12), depths=(6, 16, 12), value=2.0, last=6):
        path = tmp_path / 'nyu_depth_v2_labeled.mat'
        with h5py.File(path, 'w') as file:
            file['images'] = np.zeros(images, np.uint8)
            file['depths'] = np.full(depths, value, np.float32)
        split = dict(testNdxs=np.arange(3, last + 1)[:, None])
        savemat(tmp_path / 'splits.mat', split)
        return run()

    def run(**kwargs):
        return check_dataset(
            'nyu-mat', str(tmp_path), splits=['test'], counts='any', **kwargs
        )

    assert call().findings == [], call().lines()
    return call, run, tmp_path


def test_mat__layout_unit_and_numbers(mat):
    call, _, _ = mat
    assert 'holds images' in said(call(depths=(6, 12, 16)), 'broken file')
    assert 'holds images' in said(call(images=(6, 16, 12, 3)), 'broken file')
    assert '2000 m' in said(call(value=2000), 'unit')
    text = said(call(last=8), 'unknown image')
    assert '2 numbers of testNdxs' in text and '7 8' in text


def test_mat__truncated(mat):
    _, run, root = mat
    path = root / 'nyu_depth_v2_labeled.mat'
    path.write_bytes(path.read_bytes()[:3000])
    assert 'nyu_depth_v2_labeled.mat cannot be read' in said(
        run(), 'broken file'
    )
    (root / 'splits.mat').write_bytes(b'no matlab file')
    assert 'gives no testNdxs' in said(run(), 'broken file')


def test_h5__wrong_unit_and_empty(tmp_path):
    h5py = pytest.importorskip('h5py')
    for i, value in enumerate((2000.0, 3000.0, 0.0, 2500.0)):
        path = tmp_path / 'train' / 'attic' / f'{i}.h5'
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, 'w') as file:
            file['rgb'] = np.zeros((3, *SIZE), np.uint8)
            file['depth'] = np.full(SIZE, value, np.float32)
    report = check_dataset(
        'nyu-h5', str(tmp_path), splits=['train'], counts='any'
    )
    assert '2500 m' in said(report, 'unit')
    assert 'attic/2.h5' in said(report, 'all invalid')


def test_dpt__tag_and_length(tmp_path):
    path = tmp_path / 'a.dpt'
    head = np.array([202021.25], '<f4').tobytes()
    head += np.array([16, 12], '<i4').tobytes()
    path.write_bytes(head + np.full(SIZE, 4, '<f4').tobytes())
    found = read_dpt(str(path))
    assert (found.size, found.median, found.error) == (SIZE, 4.0, '')
    path.write_bytes(path.read_bytes()[:-4])
    assert '16x12 need 780' in read_dpt(str(path)).error
    path.write_bytes(b'\0' * 100)
    assert 'tag' in read_dpt(str(path)).error
    assert 'No such file' in read_dpt(str(tmp_path / 'b.dpt')).error


def test_float32__is_of_the_size_of_the_image(tmp_path):
    path = tmp_path / 'a.JPG'
    path.write_bytes(np.full(SIZE, 5, '<f4').tobytes())
    assert read_float32(str(path), SIZE).median == 5
    error = read_float32(str(path), (12, 17)).error
    assert error == 'holds 192 numbers for an image of 17x12'


def test_zero_shot__scenes_sequences_and_points(tmp_path):
    eth = tmp_path / 'eth3d' / 'pipes'
    image(eth / 'images/dslr_images/1.JPG')
    image(eth / 'images/dslr_images/2.JPG')
    (eth / 'ground_truth_depth/dslr_images').mkdir(parents=True)
    raw = eth / 'ground_truth_depth/dslr_images/1.JPG'
    raw.write_bytes(np.zeros(5, '<f4').tobytes())
    tum = tmp_path / 'tum' / 'walk'
    for i in range(2):
        image(tum / f'rgb/{i}.png')
        depth(tum / f'depth/{i}.png', 5000 * 60 // 5)
    write(tum / 'rgb.txt', '# t f', '0.0 rgb/0.png', '1.0 rgb/7.png')
    write(tum / 'depth.txt', '0.0 depth/0.png', '1.0 depth/1.png', 'x')
    write(tmp_path / 'diw/DIW_test.csv', './a.thumb', '1,1,17,2,>,16,12')
    report = check_dataset(
        'zero-shot',
        str(tmp_path),
        splits=['eth3d', 'tum', 'diw'],
        counts='any',
    )
    lacking = said(report, 'no depth file')
    assert '1 of 2' in lacking and 'dslr_images/2.JPG' in lacking
    assert 'holds 5 numbers for an image of 16x12' in said(
        report, 'broken picture'
    )
    assert 'tum/walk/rgb/7.png' in said(report, 'no image')
    assert 'a.thumb' in said(report, 'no image')
    text = said(report, 'list format')
    assert '1 lines are not "time file"' in text
    assert 'line 2: 1,1,17,2,>,16,12' in text
    assert set(report.codes('warning')) == set()


def test_layouts__metric_sets_have_a_range():
    for name in ('nyu', 'nyu-mat', 'nyu-h5', 'kitti-eigen', 'rooms'):
        for part in LAYOUTS[name].parts:
            if 'depth' in part.tasks:
                low, high = part.plausible
                assert 0 < low < high
