import cv2
import numpy as np
import pytest

from mmdense.datasets.depth.errors import DepthFileError, MissingDepthError
from mmdense.datasets.depth.zero_shot import (
    ETH3DDepth,
    SintelDepth,
    TUMDepth,
    match_times,
)
from mmdense.datasets.depth.zero_shot_loading import (
    LoadETH3DDepth,
    LoadSintelDepth,
)

DEPTH = np.array([[1.5, 2.0, 3.25], [4.0, 5.0, 600.0]], np.float32)


def write_image(path, size=(2, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode('.png', np.zeros((*size, 3), np.uint8))[1]
    path.write_bytes(encoded.tobytes())


def write_sintel(path, depth=DEPTH, tag=202021.25):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = depth.shape
    path.write_bytes(
        np.float32(tag).tobytes()
        + np.array([width, height], '<i4').tobytes()
        + depth.astype('<f4').tobytes()
    )


def sintel(root):
    for scene in ('alley_1', 'bamboo_2'):
        for frame in ('frame_0001', 'frame_0002'):
            base = root / 'training'
            write_image(base / 'final' / scene / f'{frame}.png')
            write_sintel(base / 'depth' / scene / f'{frame}.dpt')
    return root


def test_sintel__pairs_and_depth(tmp_path):
    data = SintelDepth(
        str(sintel(tmp_path)),
        pipeline=[dict(type='mmdense.LoadSintelDepth')],
        test_mode=True,
    )
    assert len(data) == 4
    info = data.get_data_info(2)
    assert info['scene'] == 'bamboo_2'
    assert info['dataset_name'] == 'sintel'
    sample = data[2]
    assert sample['gt_depth_map'].dtype == np.float32
    np.testing.assert_array_equal(sample['gt_depth_map'], DEPTH)


def test_sintel__chosen_scenes_and_missing_depth(tmp_path):
    root = sintel(tmp_path)
    data = SintelDepth(str(root), scenes=['alley_1'], test_mode=True)
    assert len(data) == 2
    lacking = root / 'training' / 'depth' / 'bamboo_2' / 'frame_0002.dpt'
    lacking.unlink()
    with pytest.raises(DepthFileError, match='1 of 4.*frame_0002.dpt'):
        SintelDepth(str(root), strict=True)
    assert len(SintelDepth(str(root))) == 3
    assert len(SintelDepth(str(root), test_mode=True)) == 4
    with pytest.raises(ValueError, match='render'):
        SintelDepth(str(root), render='albedo')


@pytest.mark.parametrize(
    'edit,match',
    [
        (lambda path: write_sintel(path, tag=1.0), '202021.25'),
        (lambda path: path.write_bytes(b'abc'), '202021.25'),
        (lambda path: path.write_bytes(path.read_bytes()[:-4]), 'cut'),
        (lambda path: path.unlink(), 'cannot be opened'),
        (lambda path: write_sintel(path, DEPTH.T), 'differ in size'),
    ],
)
def test_load_sintel__bad_file_is_named(edit, match, tmp_path):
    path = tmp_path / 'x.dpt'
    write_sintel(path)
    edit(path)
    results = dict(
        depth_map_path=str(path), img_path='x.png', ori_shape=(2, 3)
    )
    with pytest.raises(DepthFileError, match=match) as error:
        LoadSintelDepth()(results)
    assert 'x.dpt' in str(error.value)


def test_eth3d__raw_floats_with_infinity(tmp_path):
    place = tmp_path / 'courtyard' / 'images' / 'dslr_images'
    truth = tmp_path / 'courtyard' / 'ground_truth_depth' / 'dslr_images'
    write_image(place / 'DSC_0001.JPG')
    truth.mkdir(parents=True)
    raw = DEPTH.copy()
    raw[0, 0] = np.inf
    (truth / 'DSC_0001.JPG').write_bytes(raw.astype('<f4').tobytes())
    data = ETH3DDepth(
        str(tmp_path),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='mmdense.LoadETH3DDepth'),
        ],
        test_mode=True,
    )
    assert len(data) == 1
    depth = data[0]['gt_depth_map']
    assert depth[0, 0] == 0
    np.testing.assert_array_equal(depth.ravel()[1:], DEPTH.ravel()[1:])


def test_load_eth3d__bad_file_is_named(tmp_path):
    path = tmp_path / 'DSC.JPG'
    path.write_bytes(DEPTH.tobytes())
    results = dict(depth_map_path=str(path), ori_shape=(4, 3))
    with pytest.raises(DepthFileError, match=r'24 bytes instead of 48'):
        LoadETH3DDepth()(results)
    with pytest.raises(DepthFileError, match='load the image before'):
        LoadETH3DDepth()(dict(depth_map_path=str(path)))


def tum(root, associate=False):
    folder = root / 'fr3_walking'
    for kind, times in (('rgb', (1.0, 1.1, 1.2)), ('depth', (1.01, 1.19))):
        lines = ['# time file']
        for time in times:
            name = f'{kind}/{time:.2f}.png'
            (folder / kind).mkdir(parents=True, exist_ok=True)
            image = np.full((2, 3), 10000, np.uint16)
            cv2.imwrite(str(folder / name), image)
            lines.append(f'{time:.2f} {name}')
        (folder / f'{kind}.txt').write_text('\n'.join(lines) + '\n')
    if associate:
        (folder / 'associate.txt').write_text(
            '1.10 rgb/1.10.png 1.01 depth/1.01.png\n'
        )
    return root


def test_tum__nearest_in_time(tmp_path):
    data = TUMDepth(
        str(tum(tmp_path)),
        pipeline=[
            dict(type='mmdense.LoadDepth', depth_rescale_factor=1 / 5000)
        ],
        test_mode=True,
    )
    names = [
        (info['img_path'][-8:], info['depth_map_path'][-8:])
        for info in map(data.get_data_info, range(len(data)))
    ]
    assert names == [('1.00.png', '1.01.png'), ('1.20.png', '1.19.png')]
    np.testing.assert_allclose(data[0]['gt_depth_map'], 2.0, rtol=1e-6)


def test_tum__list_of_pairs_counts(tmp_path):
    data = TUMDepth(str(tum(tmp_path, associate=True)))
    assert len(data) == 1
    assert data.get_data_info(0)['img_path'].endswith('rgb/1.10.png')


@pytest.mark.parametrize(
    'line,match', [('1.0', 'line 2.*words'), ('x rgb/a.png', 'no time')]
)
def test_tum__bad_line_is_named(line, match, tmp_path):
    tum(tmp_path)
    path = tmp_path / 'fr3_walking' / 'rgb.txt'
    path.write_text(f'# time\n{line}\n')
    with pytest.raises(DepthFileError, match=f'rgb.txt.*{match}'):
        TUMDepth(str(tmp_path))


@pytest.mark.parametrize('kind', [ETH3DDepth, SintelDepth, TUMDepth])
def test_zero_shot__missing_folder_is_named(kind, tmp_path):
    with pytest.raises(MissingDepthError, match='nowhere.*has to contain'):
        kind(str(tmp_path / 'nowhere'))


def test_match_times__equals_brute_force():
    rng = np.random.RandomState(0)
    first = [(t, f'a{i}') for i, t in enumerate(np.sort(rng.rand(40)))]
    second = [(t, f'b{i}') for i, t in enumerate(np.sort(rng.rand(40)))]
    left = {name: t for t, name in first}
    right = {name: t for t, name in second}
    expected = []
    while True:
        options = [
            (abs(a - b), m, n)
            for m, a in left.items()
            for n, b in right.items()
            if abs(a - b) < 0.02
        ]
        if not options:
            break
        _, m, n = min(options)
        expected.append((m, n))
        del left[m], right[n]
    expected.sort(key=lambda pair: int(pair[0][1:]))
    assert match_times(first, second, 0.02) == expected
    assert 10 < len(expected) < 40
