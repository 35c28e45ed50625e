"""NYU, KITTI and Cityscapes as they lie on disk."""

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.logging import MMLogger

import mmdense  # noqa: F401  (makes mmseg importable without mmcv.ops)

pytest.importorskip('mmseg')

from mmengine.config import Config  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from mmdense.datasets.depth import (  # noqa: E402
    BadSampleError,
    CityscapesDepth,
    DepthFileError,
    KITTIDepth,
    MissingDepthError,
    NYUDepth,
    NYUDepthMat,
)
from mmdense.datasets.depth.nyu import (  # noqa: E402
    SCENE_CLASSES,
    scene_label,
)
from mmdense.registry import DATASETS, METRICS  # noqa: E402

ROOT = Path(__file__).parents[3]


@pytest.fixture
def log():
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), array)


def pixels(size, seed=0):
    rng = np.random.RandomState(seed)
    return rng.randint(0, 256, (*size, 3)).astype(np.uint8)


def base_dataset(config, part, root):
    """Data set of a base config, at another place."""
    path = ROOT / f'configs/_base_/datasets/{config}.py'
    dataset = Config.fromfile(str(path))[f'{part}_dataloader']['dataset']
    dataset['data_root'] = str(root)
    return DATASETS.build(dataset)


def relative(dataset, key, root):
    return [
        str(Path(dataset.get_data_info(i)[key]).relative_to(root))
        for i in range(len(dataset))
    ]


def make_nyu(root, folder='sync', part='train', size=(480, 640)):
    lines = []
    scenes = ['living_room_0019', 'home_office_0004', 'attic_0001']
    for number, scene in enumerate(scenes):
        where = root / folder / scene
        save(where / f'rgb_0000{number}.jpg', pixels(size, number))
        depth = np.full(size, 1000 + number * 1000, np.uint16)
        save(where / f'sync_depth_0000{number}.png', depth)
        start = '/' if part == 'train' else ''
        lines.append(
            f'{start}{scene}/rgb_0000{number}.jpg '
            f'{start}{scene}/sync_depth_0000{number}.png 518.8579'
        )
    (root / f'nyu_{part}.txt').write_text('\n'.join(lines) + '\n')
    return root


@pytest.mark.parametrize(
    'folder', ['sync', 'official_splits/test', '.', 'sync_in_list']
)
@pytest.mark.parametrize('part', ['train', 'test'])
def test_nyu__paths_of_the_lists(tmp_path, log, folder, part):
    place = 'sync' if folder == 'sync_in_list' else folder
    make_nyu(tmp_path, place, part, size=(12, 16))
    if folder == 'sync_in_list':
        path = tmp_path / f'nyu_{part}.txt'
        words = [word.lstrip('/') for word in path.read_text().split()]
        words = [w if w[0].isdigit() else f'sync\\{w}' for w in words]
        rows = [' '.join(words[i : i + 3]) for i in range(0, 9, 3)]
        path.write_text('\r\n'.join(rows))
    dataset = NYUDepth(part, data_root=str(tmp_path))
    names = relative(dataset, 'img_path', tmp_path)
    assert names[0] == str(Path(place, 'living_room_0019/rgb_00000.jpg'))
    assert all((tmp_path / name).is_file() for name in names)
    info = dataset.get_data_info(1)
    assert Path(info['depth_map_path']).is_file()
    assert info['focal'] == pytest.approx(518.8579)
    assert info['dataset_name'] == 'nyu'
    labels = [dataset.get_data_info(i)['scene_label'] for i in range(3)]
    assert labels == [
        SCENE_CLASSES.index('living'),
        SCENE_CLASSES.index('home'),
        -1,
    ]
    expected = {'train': 24231, 'test': 654}[part]
    assert f'instead of {expected} ({3 - expected:+d})' in ''.join(log)


# the kinds of folders of the training list
FOLDER_KINDS = """
basement bathroom bedroom bookstore cafe classroom computer_lab
conference_room dinette dining_room excercise_room foyer furniture_store
home_office home_storage indoor_balcony kitchen laundry_room living_room
nyu_office office office_kitchen playroom printer_room reception_room
student_lounge study study_room
"""


def test_nyu__scene_classes():
    kinds = FOLDER_KINDS.split()
    labels = {kind: scene_label(f'{kind}_0001a') for kind in kinds}
    assert len(kinds) == 28
    assert sorted(set(labels.values())) == list(range(25))
    assert labels['home_office'] == labels['home_storage']
    assert scene_label('office') == labels['office_kitchen']
    assert labels['nyu_office'] != labels['office']


def test_nyu__recipe(tmp_path):
    make_nyu(tmp_path)
    np.random.seed(0)
    train = base_dataset('nyu_bts_list', 'train', tmp_path)
    sample = train[1]
    assert tuple(sample['inputs'].shape) == (3, 416, 544)
    depth = sample['data_samples'].gt_depth_map.data
    assert tuple(depth.shape) == (1, 416, 544)
    assert set(depth.unique().tolist()) <= {0.0, 2.0}
    meta = sample['data_samples'].metainfo
    assert meta['scene_label'] == scene_label('home_office_0004')
    assert meta['dataset_name'] == 'nyu'
    make_nyu(tmp_path, 'official_splits/test', 'test')
    test = base_dataset('nyu_bts_list', 'val', tmp_path)
    sample = test[0]['data_samples']
    assert tuple(sample.gt_depth_map.data.shape) == (1, 480, 640)
    assert 'official_splits' in sample.img_path


def test_nyu__problems_are_named(tmp_path):
    with pytest.raises(MissingDepthError, match='nyu_train.txt: no such'):
        NYUDepth(data_root=str(tmp_path))
    path = tmp_path / 'nyu_train.txt'
    path.write_text('\n')
    with pytest.raises(MissingDepthError, match='no entry'):
        NYUDepth(data_root=str(tmp_path))
    path.write_text('/a/rgb.jpg /a/depth.png 518.8\n/b/rgb.jpg\n')
    with pytest.raises(DepthFileError, match='nyu_train.txt, line 2'):
        NYUDepth(data_root=str(tmp_path))
    path.write_text('/a/rgb.jpg /a/depth.png wide\n')
    with pytest.raises(DepthFileError, match="line 1: .*'wide'"):
        NYUDepth(data_root=str(tmp_path))
    path.write_text('/a/rgb.jpg /a/depth.png 518.8\n')
    with pytest.raises(MissingDepthError, match='sync or .*: a/rgb.jpg'):
        NYUDepth(data_root=str(tmp_path))
    with pytest.raises(ValueError, match='train'):
        NYUDepth('val', data_root=str(tmp_path))


def test_nyu__missing_entry_is_a_bad_sample(tmp_path):
    make_nyu(tmp_path)
    gone = tmp_path / 'sync/home_office_0004/sync_depth_00001.png'
    gone.unlink()
    strict = base_dataset('nyu_bts_list', 'train', tmp_path)
    strict.strict = True
    with pytest.raises(DepthFileError, match='sync_depth_00001.png'):
        strict[1]
    relaxed = base_dataset('nyu_bts_list', 'train', tmp_path)
    assert 'attic' in relaxed[2]['data_samples'].img_path
    assert relaxed[1]['data_samples'].scene != 'home_office_0004'
    assert relaxed.bad_files == [
        str(tmp_path / 'sync/home_office_0004/rgb_00001.jpg')
    ]


def test_nyu__wrong_unit_is_told(tmp_path, log):
    make_nyu(tmp_path, size=(12, 16))
    steps = [dict(type='mmdense.LoadDepth', depth_rescale_factor=1.0)]
    NYUDepth(data_root=str(tmp_path), pipeline=steps)
    told = [line for line in log if 'factor of 1/1000' in line]
    assert len(told) == 1
    assert 'sync_depth' in told[0]


DRIVES = ('2011_09_26_drive_0001_sync', '2011_09_28_drive_0002_sync')


def make_kitti(root, raw='raw', flat=False, suffix='.png', test=False):
    lines = []
    sizes = [(375, 1242), (370, 1226), (376, 1241)]
    for number, size in enumerate(sizes):
        drive = DRIVES[number % 2]
        date = drive[:10]
        image = f'{date}/{drive}/image_02/data/{number:010d}'
        depth = f'{drive}/proj_depth/groundtruth/image_02/{number:010d}.png'
        save(root / raw / f'{image}{suffix}', pixels(size, number))
        part = '' if flat else ('train', 'val')[number % 2]
        truth = np.zeros(size, np.uint16)
        truth[-300:, ::3] = 256 * (number + 2)
        save(root / 'data_depth_annotated' / part / depth, truth)
        lines.append(f'{image}.png {depth} 721.5377')
    lines.insert(1, f'{date}/{drive}/image_02/data/9.png None 721.5377')
    name = 'test' if test else 'train'
    (root / f'kitti_eigen_{name}.txt').write_text('\n'.join(lines))
    return root


@pytest.mark.parametrize(
    'layout',
    [{}, dict(raw='input', flat=True), dict(raw='', suffix='.jpg')],
)
def test_kitti__paths_and_none_entries(tmp_path, log, layout):
    make_kitti(tmp_path, **layout)
    dataset = KITTIDepth(data_root=str(tmp_path))
    assert len(dataset) == 3
    assert dataset.without_depth == 1
    for key in ('img_path', 'depth_map_path'):
        for name in relative(dataset, key, tmp_path):
            assert (tmp_path / name).is_file(), name
    assert '1 of 4 entries have no depth (None)' in ''.join(log)
    assert 'instead of 23158' in ''.join(log)
    assert dataset.get_data_info(1)['focal'] == pytest.approx(721.5377)


def test_kitti__recipe(tmp_path):
    make_kitti(tmp_path)
    make_kitti(tmp_path, test=True)
    np.random.seed(0)
    train = base_dataset('kitti_eigen', 'train', tmp_path)
    for index, metres in enumerate((2.0, 3.0, 4.0)):
        sample = train[index]
        assert tuple(sample['inputs'].shape) == (3, 352, 704)
        depth = sample['data_samples'].gt_depth_map.data
        assert set(depth.unique().tolist()) == {0.0, metres}
    test = base_dataset('kitti_eigen', 'val', tmp_path)
    sample = test[1]
    assert tuple(sample['inputs'].shape) == (3, 352, 1216)
    sample = sample['data_samples']
    assert tuple(sample.gt_depth_map.data.shape) == (1, 370, 1226)
    assert sample.ori_shape == (352, 1216)
    assert sample.kb_crop == (18, 370, 5, 1221)


@pytest.mark.parametrize('protocol', ['kitti_garg', 'kitti_garg_full'])
def test_kitti__metric_finds_the_crop(tmp_path, protocol):
    """The truth itself, cut out as a prediction, scores without error."""
    make_kitti(tmp_path, test=True)
    test = base_dataset('kitti_eigen', 'val', tmp_path)
    metric = METRICS.build(dict(type='mmdense.DepthMetric', protocol=protocol))
    for index in range(3):
        sample = test[index]['data_samples']
        truth = sample.gt_depth_map.data
        top, bottom, left, right = sample.kb_crop
        cut = truth[:, top:bottom, left:right]
        item = sample.to_dict()
        item['gt_depth_map'] = dict(data=truth)
        item['pred_depth_map'] = dict(data=cut)
        metric.process(None, [item])
    result = metric.evaluate(3)
    assert result[f'{protocol}/abs_rel'] == 0
    assert result[f'{protocol}/images'] == 3


def test_kitti__drives_without_depth_are_named(tmp_path, log):
    make_kitti(tmp_path)
    path = tmp_path / 'kitti_eigen_train.txt'
    lines = path.read_text()
    drive = '2011_09_26_drive_9999_sync'
    first = lines.split()
    path.write_text(f'{lines}\n{first[0]} {drive}/x.png 721.5\n')
    count = len(KITTIDepth(data_root=str(tmp_path)))
    assert count > 1
    assert any(drive in line and 'have no depth' in line for line in log)
    with pytest.raises(DepthFileError, match=drive):
        KITTIDepth(data_root=str(tmp_path), strict=True)


def test_kitti__problems_are_named(tmp_path):
    make_kitti(tmp_path)
    (tmp_path / 'data_depth_annotated').rename(tmp_path / 'elsewhere')
    with pytest.raises(
        MissingDepthError, match='drives of .*annotated.*: 2011'
    ):
        KITTIDepth(data_root=str(tmp_path))
    (tmp_path / 'raw').rename(tmp_path / 'gone')
    with pytest.raises(MissingDepthError, match='raw or .*input.*: 2011'):
        KITTIDepth(data_root=str(tmp_path))
    (tmp_path / 'kitti_eigen_train.txt').write_text('a.png None 7\n')
    with pytest.raises(MissingDepthError, match='no entry with depth'):
        KITTIDepth(data_root=str(tmp_path))


CAMERA = dict(extrinsic=dict(baseline=0.2), intrinsic=dict(fx=2000.0))


def make_cityscapes(root, split='train', size=(64, 128)):
    for number, city in enumerate(('aachen', 'bochum')):
        stem = f'{split}/{city}/{city}_00000{number}_000019'
        image = root / f'leftImg8bit/{stem}_leftImg8bit.png'
        save(image, pixels(size, number))
        disparity = np.zeros(size, np.uint16)
        disparity[:, 10:] = 256 * 40 + 1
        disparity[:, -10:] = 1
        save(root / f'disparity/{stem}_disparity.png', disparity)
        camera = root / f'camera/{stem}_camera.json'
        camera.parent.mkdir(parents=True, exist_ok=True)
        camera.write_text(json.dumps(CAMERA))
    return root


@pytest.mark.parametrize('split', ['train', 'val', 'train_extra'])
def test_cityscapes__lists_and_metres(tmp_path, log, split):
    make_cityscapes(tmp_path, split)
    steps = [
        dict(type='mmdense.LoadImage'),
        dict(type='mmdense.LoadDisparity'),
        dict(type='mmdense.PackDepthInputs'),
    ]
    dataset = CityscapesDepth(split, data_root=str(tmp_path), pipeline=steps)
    assert len(dataset) == 2
    sample = dataset[0]['data_samples']
    depth = sample.gt_depth_map.data[0].numpy()
    assert (depth[:, :10] == 0).all()
    assert (depth[:, -10:] == 0).all()
    np.testing.assert_allclose(depth[:, 10:-10], 0.2 * 2000 / 40, rtol=1e-6)
    assert sample.focal == 2000
    assert sample.scene == 'aachen'
    expected = CityscapesDepth.EXPECTED[split]
    assert f'instead of {expected}' in ''.join(log)


def test_cityscapes__disparity_equals_a_loop(tmp_path):
    make_cityscapes(tmp_path, size=(8, 12))
    rng = np.random.RandomState(0)
    raw = rng.choice([0, 1, 2, 257, 9000, 65535], (8, 12)).astype(np.uint16)
    paths = sorted((tmp_path / 'disparity').rglob('*.png'))
    save(paths[0], raw)
    dataset = CityscapesDepth(
        data_root=str(tmp_path),
        pipeline=[dict(type='mmdense.LoadDisparity')],
        plausible_range=None,
    )
    got = dataset[0]['gt_depth_map']
    for row, col in np.ndindex(8, 12):
        p = int(raw[row, col])
        disparity = (p - 1) / 256 if p > 0 else 0
        wanted = 0.2 * 2000 / disparity if disparity > 0 else 0
        assert got[row, col] == pytest.approx(wanted, rel=1e-6)


def test_cityscapes__recipe(tmp_path):
    make_cityscapes(tmp_path, size=(512, 1024))
    make_cityscapes(tmp_path, 'val', size=(512, 1024))
    np.random.seed(0)
    sample = base_dataset('cityscapes_depth', 'train', tmp_path)[0]
    assert tuple(sample['inputs'].shape) == (3, 352, 704)
    depth = sample['data_samples'].gt_depth_map.data
    # nothing between 0 and the only depth there is
    assert len(set(depth.unique().tolist()) - {0.0}) == 1
    assert depth.max() == pytest.approx(10.0)
    sample = base_dataset('cityscapes_depth', 'val', tmp_path)[0]
    sample = sample['data_samples']
    assert tuple(sample.gt_depth_map.data.shape) == (1, 352, 1216)
    assert sample.ori_shape == (352, 1216)


def test_cityscapes__missing_files(tmp_path, log):
    make_cityscapes(tmp_path)
    gone = sorted((tmp_path / 'camera').rglob('*.json'))[1]
    gone.unlink()
    assert len(CityscapesDepth(data_root=str(tmp_path))) == 1
    assert (
        '1 of 2 images have no disparity or no camera file (check data_root)'
        f'. Missing: {gone}' in ''.join(log)
    )
    with pytest.raises(DepthFileError, match=gone.name):
        CityscapesDepth(data_root=str(tmp_path), strict=True)
    # metrics count it
    assert len(CityscapesDepth(data_root=str(tmp_path), test_mode=True)) == 2
    with pytest.raises(MissingDepthError, match='val: no such folder'):
        CityscapesDepth('val', data_root=str(tmp_path))
    with pytest.raises(ValueError, match='train_extra'):
        CityscapesDepth('test', data_root=str(tmp_path))


@pytest.mark.parametrize(
    'content,match',
    [
        ('{', 'no camera file'),
        ('{"extrinsic": {}}', 'KeyError'),
        ('[]', 'no camera file'),
        (json.dumps({**CAMERA, 'intrinsic': {'fx': 0}}), 'positive'),
    ],
)
def test_cityscapes__bad_camera_is_named(tmp_path, content, match):
    make_cityscapes(tmp_path)
    camera = sorted((tmp_path / 'camera').rglob('*.json'))[0]
    camera.write_text(content)
    dataset = CityscapesDepth(
        data_root=str(tmp_path),
        pipeline=[dict(type='mmdense.LoadDisparity')],
        strict=True,
    )
    with pytest.raises(DepthFileError, match=match) as caught:
        dataset[0]
    assert str(camera) in str(caught.value)


KINDS = ('kitchen', 'home_office', 'bathroom', 'furniture_store')


@pytest.fixture
def labelled(tmp_path):
    h5py = pytest.importorskip('h5py')
    io = pytest.importorskip('scipy.io')
    rng = np.random.RandomState(0)
    # what MATLAB calls 480x640x3x4 is 4x3x640x480 in HDF5
    images = rng.randint(0, 256, (480, 640, 3, 4)).astype(np.uint8)
    depths = rng.rand(480, 640, 4).astype(np.float32) + 1
    with h5py.File(tmp_path / 'nyu_depth_v2_labeled.mat', 'w') as file:
        file['images'] = images.transpose(3, 2, 1, 0)
        file['depths'] = depths.transpose(2, 1, 0)
        file['rawDepths'] = depths.transpose(2, 1, 0) * 2
        cells = file.create_dataset('sceneTypes', (1, 4), dtype=h5py.ref_dtype)
        for number, kind in enumerate(KINDS):
            letters = np.array([[ord(c)] for c in kind], np.uint16)
            file[f'#refs#/{number}'] = letters
            cells[0, number] = file[f'#refs#/{number}'].ref
    io.savemat(
        tmp_path / 'splits.mat',
        dict(
            trainNdxs=np.array([[2], [4]], np.uint16),
            testNdxs=np.array([[1], [3]], np.uint16),
        ),
    )
    return tmp_path, images, depths


@pytest.mark.parametrize('part,numbers', [('train', (1, 3)), ('val', (0, 2))])
def test_nyu_mat__images_and_split(labelled, part, numbers):
    root, images, depths = labelled
    dataset = base_dataset('nyu_mat', part, root)
    assert len(dataset) == 2
    loaded = dataset.pipeline.transforms[0]
    for index, number in enumerate(numbers):
        info = dataset.get_data_info(index)
        assert info['img_path'].endswith(f'labeled.mat#{number + 1}')
        assert info['scene'] == KINDS[number]
        assert info['scene_label'] == scene_label(KINDS[number])
        got = loaded(info)
        np.testing.assert_array_equal(got['img'], images[..., ::-1, number])
        np.testing.assert_array_equal(got['gt_depth_map'], depths[..., number])
        assert got['ori_shape'] == (480, 640)
    size = (416, 544) if part == 'train' else (480, 640)
    assert tuple(dataset[0]['inputs'].shape) == (3, *size)


def test_nyu_mat__workers_give_what_the_main_process_gives(labelled):
    root, *_ = labelled

    def epoch(workers):
        steps = [
            dict(type='mmdense.LoadDepthMat', depth_key='rawDepths'),
            dict(type='mmdense.PackDepthInputs'),
        ]
        cfg = dict(
            batch_size=1,
            num_workers=workers,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(
                type='mmdense.NYUDepthMat',
                data_root=str(root),
                pipeline=steps,
            ),
        )
        loader = Runner.build_dataloader(cfg, seed=0)
        return [
            (
                batch['inputs'][0].numpy(),
                batch['data_samples'][0].gt_depth_map.data.numpy(),
            )
            for batch in loader
        ]

    for one, two in zip(epoch(0), epoch(2)):
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])


def test_nyu_mat__problems_are_named(labelled):
    io = pytest.importorskip('scipy.io')
    root, *_ = labelled
    mat, splits = root / 'nyu_depth_v2_labeled.mat', root / 'splits.mat'
    io.savemat(splits, dict(trainNdxs=np.array([[9]])))
    with pytest.raises(DepthFileError, match='splits.mat: numbers .* 4 ima'):
        NYUDepthMat(data_root=str(root))
    with pytest.raises(DepthFileError, match='no testNdxs'):
        NYUDepthMat('test', data_root=str(root))
    splits.write_bytes(b'x')
    with pytest.raises(DepthFileError, match='splits.mat: broken'):
        NYUDepthMat(data_root=str(root))
    io.savemat(splits, dict(trainNdxs=np.array([[2]])))
    content = mat.read_bytes()
    mat.write_bytes(content[: len(content) // 2])
    with pytest.raises(DepthFileError, match='labeled.mat: truncated'):
        NYUDepthMat(data_root=str(root))
    mat.unlink()
    with pytest.raises(MissingDepthError, match='labeled.mat: no such'):
        NYUDepthMat(data_root=str(root))
    with pytest.raises(ValueError, match='test'):
        NYUDepthMat('val', data_root=str(root))


def test_nyu_mat__error_of_one_image_names_it(labelled):
    root, *_ = labelled
    dataset = base_dataset('nyu_mat', 'val', root)
    (root / 'nyu_depth_v2_labeled.mat').write_bytes(b'gone')
    with pytest.raises(BadSampleError, match='labeled.mat: image 2 cannot'):
        dataset[1]
