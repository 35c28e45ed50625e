"""Synthetic data sets in each layout, whole and with one defect each."""

import hashlib
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmdense.datasets.layouts import (
    LAYOUTS,
    CocoFile,
    DepthList,
    DepthPairs,
    H5Folder,
    ImageFolder,
    LabelledMat,
    LabelPairs,
    PointList,
    ScenePairs,
    TimedPairs,
    VocList,
    check_dataset,
    get_layout,
    segmentation_layout,
)
from mmdense.datasets.layouts.masks import MaskError, check_mask, run_lengths
from mmdense.utils.errors import UserValueError

ROOT = os.path.join(os.path.dirname(__file__), '..', '..')
NUMBER = 3
SIZE = (24, 32)


def _save(path, array, **kwargs):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.fromarray(array).save(path, **kwargs)


def _image(path, size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    if size[0] > 500:
        array = np.zeros((*size, 3), np.uint8)
    else:
        array = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    form = 'PNG' if path.lower().endswith('.png') else 'JPEG'
    _save(path, array, format=form)


def _label(path, part, size):
    if isinstance(part, DepthPairs):
        # 3 m; a disparity of 9.77 pixels
        stored = 2500 if part.cameras else round(3 / part.scale)
        _save(path, np.full(size, stored, np.uint16))
        return
    label = np.full(size, part.classes[1], np.uint8)
    label[0, 0] = part.classes[0]
    label[1, 1] = part.classes[0] if part.ignore is None else part.ignore
    _save(path, label)


def _build_images(root, part):
    for i in range(NUMBER):
        name = part.pattern.replace('<city>', 'aachen')
        name = name.replace('n*/', f'n{i:08d}/').replace(
            '{jpg,png,...}', 'jpg'
        )
        name = name.replace('*', f'{part.split}_{i:06d}')
        _image(os.path.join(root, part.folder, name), seed=i)


def _build_pairs(root, part):
    size = part.size or SIZE
    folder = 'aachen/' if part.nested else ''
    prefix = part.key.split('.')[0]
    stems = [f'{folder}{prefix}_{i:06d}' for i in range(NUMBER)]
    for i, stem in enumerate(stems):
        image = os.path.join(root, part.images, stem + part.image_suffix)
        _image(image, size, seed=i)
        _label(
            os.path.join(root, part.labels, stem + part.label_suffix),
            part,
            size,
        )
        if getattr(part, 'cameras', ''):
            path = os.path.join(root, part.cameras, stem + '_camera.json')
            _dump(path, CAMERA)
    if part.list_file:
        _write(os.path.join(root, part.list_file), stems)


CAMERA = dict(extrinsic=dict(baseline=0.22), intrinsic=dict(fx=2262.5))


def _depth(path, size=SIZE, scale=1e-3):
    _save(path, np.full(size, round(3 / scale), np.uint16))


def _build_list(root, part):
    lines = []
    kitti = 'kitti' in part.list_file
    for i in range(NUMBER):
        image = f'/kitchen_0001/rgb_{i:05d}.jpg'
        depth = f'/kitchen_0001/sync_depth_{i:05d}.png'
        if kitti:
            image = f'2011_09_26/2011_09_26_drive_{part.split}/{i:010d}.png'
            depth = f'2011_09_26_drive_{part.split}/proj_depth/{i:010d}.png'
        # drives of one list lie in train and in val
        place = part.depth_roots[i % 2 if kitti else 0]
        lines.append(f'{image} {depth} 518.8579')
        _image(os.path.join(root, part.image_roots[0], image.lstrip('/')))
        _depth(os.path.join(root, place, depth.lstrip('/')), SIZE, part.scale)
    if part.without:
        lines.insert(1, f'{image} None 721.5377')
    _write(os.path.join(root, part.list_file), lines)


def _build_mat(root, part):
    h5py = pytest.importorskip('h5py')
    savemat = pytest.importorskip('scipy.io').savemat
    os.makedirs(root, exist_ok=True)
    with h5py.File(os.path.join(root, part.mat_file), 'w') as file:
        file['images'] = np.zeros((2 * NUMBER, 3, *SIZE[::-1]), np.uint8)
        file['depths'] = np.full((2 * NUMBER, *SIZE[::-1]), 3, np.float32)
    keys = dict(
        trainNdxs=np.arange(1, NUMBER + 1)[:, None],
        testNdxs=np.arange(NUMBER + 1, 2 * NUMBER + 1)[:, None],
    )
    savemat(os.path.join(root, part.split_file), keys)


def _bytes_to(path, *arrays):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as file:
        for array in arrays:
            file.write(array.tobytes())


def _build_scenes(root, part):
    end = part.image_suffixes[-1]
    for i in range(NUMBER):
        names = dict(scene=f's{i % 2}', name=f'f{i}{end}', stem=f'f{i}')
        folder = part.images.format(**names)
        here = os.path.join(root, part.root)
        _image(os.path.join(here, folder, names['name']))
        path = os.path.join(here, part.depths.format(**names))
        depth = np.full(SIZE, 3, '<f4')
        if part.coding == 'dpt':
            head = np.array([202021.25], '<f4'), np.array(SIZE[::-1], '<i4')
            _bytes_to(path, *head, depth)
        else:
            _bytes_to(path, depth)


def _build_timed(root, part):
    here = os.path.join(root, part.root, 'walking')
    for name in ('rgb', 'depth'):
        rows = [f'{i}.5 {name}/{i}.png' for i in range(NUMBER)]
        _write(os.path.join(here, f'{name}.txt'), ['# time file', *rows])
    for i in range(NUMBER):
        _image(os.path.join(here, f'rgb/{i}.png'))
        _depth(os.path.join(here, f'depth/{i}.png'), SIZE, part.scale)


def _build_points(root, part):
    lines = []
    for i in range(NUMBER):
        lines += [f'./DIW_test/{i}.thumb', f'3,4,10,20,>,{SIZE[1]},{SIZE[0]}']
        _image(os.path.join(root, part.root, 'DIW_test', f'{i}.thumb'))
    _write(os.path.join(root, part.list_file), lines)


def _write(path, lines):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as file:
        file.writelines(f'{line}\n' for line in lines)


def _build_coco(root, part):
    images, notes = [], []
    folder = os.path.join(root, part.images)
    for parent, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            path = os.path.join(parent, name)
            with Image.open(path) as image:
                width, height = image.size
            name = os.path.relpath(path, folder)
            row = dict(id=len(images) + 1, file_name=name)
            images.append(dict(row, height=height, width=width))
    for image in images:
        height, width = image['height'], image['width']
        for kind in range(2):
            runs = dict(
                size=[height, width], counts=[5, 7, height * width - 12]
            )
            polygon = [[1, 1, 9, 1, 9, 9.5, 1, 9]]
            notes.append(
                dict(
                    id=len(notes) + 1,
                    image_id=image['id'],
                    category_id=1 + kind,
                    bbox=[1, 1, 8, 8],
                    area=64,
                    segmentation=runs if kind else polygon,
                )
            )
    kinds = [dict(id=i + 1, name=f'c{i}') for i in range(part.categories)]
    data = dict(images=images, annotations=notes, categories=kinds)
    _dump(os.path.join(root, part.file), data)


def _dump(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as file:
        json.dump(data, file)


def _build_voc(root, part):
    names = [f'{part.key}_{i:06d}' for i in range(NUMBER)]
    _write(os.path.join(root, part.list_file), names)
    for name in names:
        _image(os.path.join(root, part.images, f'{name}.jpg'))
        _write(
            os.path.join(root, part.boxes, f'{name}.xml'),
            [
                f'<annotation><size><width>{SIZE[1]}</width>'
                f'<height>{SIZE[0]}</height></size><object>'
                '<name>dog</name><bndbox><xmin>1</xmin><ymin>2.0</ymin>'
                '<xmax>20</xmax><ymax>24</ymax></bndbox>'
                '<part><name>head</name></part></object></annotation>'
            ],
        )


def _build_h5(root, part):
    h5py = pytest.importorskip('h5py')
    for i in range(NUMBER):
        name = part.pattern.replace('<scene>', 'attic').replace('*', str(i))
        path = os.path.join(root, part.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with h5py.File(path, 'w') as file:
            file['rgb'] = np.zeros((3, *SIZE), np.uint8)
            file['depth'] = np.ones(SIZE, np.float32)


BUILD = {
    CocoFile: _build_coco,
    DepthList: _build_list,
    DepthPairs: _build_pairs,
    H5Folder: _build_h5,
    ImageFolder: _build_images,
    LabelPairs: _build_pairs,
    LabelledMat: _build_mat,
    PointList: _build_points,
    ScenePairs: _build_scenes,
    TimedPairs: _build_timed,
    VocList: _build_voc,
}


def build(name, root):
    layout = get_layout(name) if isinstance(name, str) else name
    for part in layout.parts:
        if isinstance(part, ImageFolder) and 'instanceIds' in part.pattern:
            part = replace(part, pattern=part.pattern.replace('*', 'v_*'))
        BUILD[type(part)](str(root), part)
    return str(root)


def check(name, root, **kwargs):
    kwargs.setdefault('counts', 'any')
    return check_dataset(name, str(root), **kwargs)


def texts(report, code):
    found = [f for f in report.findings if f.code == code]
    assert found, f'no {code!r} in {report.lines()}'
    return ' '.join(' '.join([f.text, f.fix, *f.examples]) for f in found)


every_layout = pytest.mark.parametrize('name', sorted(LAYOUTS))


@every_layout
def test_check__whole_data_set_is_fine(name, tmp_path):
    root = build(name, tmp_path / 'set')
    report = check(name, root)
    assert report.findings == [], report.lines()
    assert sum(report.opened.values()) >= NUMBER
    # the same numbers as expectation change nothing
    counts = {key: n['found'] for key, n in report.counts.items()}
    assert check(name, root, counts=counts).findings == []
    assert set(report.splits) == set(LAYOUTS[name].splits)


# no numbers were published
UNCOUNTED = {'folder', 'mix3', 'mix10'}


@pytest.mark.parametrize('name', sorted(set(LAYOUTS) - UNCOUNTED))
def test_check__published_counts_name_what_is_missing(name, tmp_path):
    root = build(name, tmp_path)
    report = check(name, root, counts='published')
    assert set(report.codes()) == {'too few'}
    wanted = {
        key: n['expected'] - n['found']
        for key, n in report.counts.items()
        if n['expected'] is not None and n['expected'] > n['found']
    }
    said = ' '.join(f.text for f in report.findings)
    for missing in wanted.values():
        assert f'{missing:,} missing' in said
    optional = {p.key for p in LAYOUTS[name].parts if p.optional}
    levels = {f.part: f.level for f in report.findings}
    for part, level in levels.items():
        assert level == ('warning' if part in optional else 'error')


def test_check__too_many_is_a_warning(tmp_path):
    root = build('coco', tmp_path)
    counts = {'train.images.images': NUMBER - 1}
    report = check('coco', root, counts=counts)
    assert report.ok
    assert '1 too many' in texts(report, 'too many')


def _bytes(path):
    with open(path, 'rb') as file:
        return file.read()


def _hashes(root):
    digest = {}
    for parent, folders, names in os.walk(root):
        digest[parent] = (sorted(folders), os.stat(parent).st_mtime_ns)
        for name in names:
            path = os.path.join(parent, name)
            stamp = os.stat(path).st_mtime_ns
            digest[path] = (hashlib.sha256(_bytes(path)).hexdigest(), stamp)
    return digest


@every_layout
def test_check__data_stay_as_they_are(name, tmp_path):
    root = build(name, tmp_path)
    for parent, _, names in os.walk(root):
        for file in names:
            os.chmod(os.path.join(parent, file), 0o444)
    folders = [parent for parent, _, _ in os.walk(root)]
    for folder in folders:
        os.chmod(folder, 0o555)
    try:
        before = _hashes(root)
        assert check(name, root).ok
        check(name, root, counts='published', sample=None)
        assert _hashes(root) == before
    finally:
        for folder in folders:
            os.chmod(folder, 0o755)


def _cut(path):
    content = _bytes(path)
    with open(path, 'wb') as file:
        file.write(content[: len(content) * 2 // 3])


IMAGE = 'images/training/train_000001.jpg'
LABEL = 'annotations/training/train_000001.png'


def _part(root, edit):
    """Change the annotation file of coco's train split."""
    path = os.path.join(root, 'annotations/instances_train2017.json')
    with open(path) as file:
        data = json.load(file)
    edit(data)
    _dump(path, data)


ADE_DEFECTS = {
    'missing image': (
        lambda r: os.remove(f'{r}/{IMAGE}'),
        'no image',
        ['1 label maps have no image', 'train_000001.png'],
    ),
    'missing label map': (
        lambda r: os.remove(f'{r}/{LABEL}'),
        'no label map',
        ['1 images have no label map', 'train_000001.png'],
    ),
    'missing folder': (
        lambda r: shutil.rmtree(f'{r}/annotations/training'),
        'missing',
        ['no folder annotations/training', 'ADEChallengeData2016.zip'],
    ),
    'label values': (
        lambda r: _save(f'{r}/{LABEL}', np.full(SIZE, 151, np.uint8)),
        'label values',
        ['1 of 3', '0 to 150', 'train_000001.png: 151'],
    ),
    'ignored value of another data set': (
        lambda r: _save(f'{r}/{LABEL}', np.full(SIZE, 255, np.uint8)),
        'label values',
        ['train_000001.png: 255'],
    ),
    'colour label map': (
        lambda r: _save(f'{r}/{LABEL}', np.zeros((*SIZE, 3), np.uint8)),
        'colour labels',
        ['train_000001.png: RGB'],
    ),
    'size mismatch': (
        lambda r: _save(f'{r}/{LABEL}', np.zeros((20, 32), np.uint8)),
        'size mismatch',
        ['train_000001: image 32x24, label map 32x20'],
    ),
    'truncated image': (
        lambda r: _cut(f'{r}/{IMAGE}'),
        'broken picture',
        ['1 of 3 opened images', 'train_000001.jpg: truncated'],
    ),
    'truncated label map': (
        lambda r: _cut(f'{r}/{LABEL}'),
        'broken picture',
        ['1 of 3 opened label maps', 'train_000001.png'],
    ),
    'text as image': (
        lambda r: _write(f'{r}/{IMAGE}', ['404 not found']),
        'broken picture',
        ['train_000001.jpg: not a picture'],
    ),
    'upper case': (
        lambda r: os.rename(f'{r}/{IMAGE}', f'{r}/{IMAGE[:-4]}.JPG'),
        'suffix case',
        ['1 files', '.jpg', 'train_000001.JPG', 'Rename'],
    ),
    'broken link': (
        lambda r: os.symlink('nowhere', f'{r}/images/training/x.jpg'),
        'broken link',
        ['1 links to nothing', 'x.jpg'],
    ),
    'one folder too deep': (
        lambda r: (
            os.rename(f'{r}/images/training', f'{r}/training'),
            os.makedirs(f'{r}/images/training'),
            os.rename(f'{r}/training', f'{r}/images/training/training'),
        ),
        'too deep',
        ['a folder more', 'Move them up into images/training'],
    ),
    'packed folder': (
        lambda r: (
            shutil.rmtree(f'{r}/images'),
            _write(f'{r}/images.zip', ['PK']),
        ),
        'missing',
        ['Not unpacked yet? images.zip'],
    ),
}


@pytest.mark.parametrize('defect', sorted(ADE_DEFECTS))
def test_check__defect_of_pairs(defect, tmp_path):
    make, code, phrases = ADE_DEFECTS[defect]
    root = build('ade20k', tmp_path)
    make(root)
    report = check('ade20k', root)
    assert code in report.codes()
    said = texts(report, code)
    for phrase in phrases:
        assert phrase in said, said


COCO_DEFECTS = {
    'missing image': (
        lambda r: os.remove(f'{r}/train2017/train_000001.jpg'),
        'no image',
        ['1 of 3 listed images', 'train_000001.jpg'],
    ),
    'other case': (
        lambda r: os.rename(
            f'{r}/train2017/train_000001.jpg',
            f'{r}/train2017/train_000001.JPG',
        ),
        'no image',
        ['in another case'],
    ),
    'cut json': (
        lambda r: _cut(f'{r}/annotations/instances_train2017.json'),
        'broken json',
        ['cut or no json'],
    ),
    'no categories': (
        lambda r: _part(r, lambda d: d.pop('categories')),
        'broken json',
        ["no list 'categories'"],
    ),
    'no area': (
        lambda r: _part(r, lambda d: d['annotations'][2].pop('area')),
        'broken entry',
        ["1 of 6 entries of 'annotations'", "[2] (id 3): no 'area'"],
    ),
    'unknown category': (
        lambda r: _part(
            r, lambda d: d['annotations'][2].update(category_id=99)
        ),
        'unknown category_id',
        ['1 annotations', 'annotation 3: category_id 99'],
    ),
    'unknown image': (
        lambda r: _part(r, lambda d: d['annotations'][2].update(image_id=99)),
        'unknown image_id',
        ['annotation 3: image_id 99'],
    ),
    'repeated id': (
        lambda r: _part(r, lambda d: d['annotations'][2].update(id=1)),
        'repeated id',
        ['1 ids of annotations', 'id 1'],
    ),
    'box outside': (
        lambda r: _part(
            r, lambda d: d['annotations'][2].update(bbox=[1, 1, 60, 4])
        ),
        'box outside',
        ['1 of 6 boxes', 'annotation 3', 'image 32x24'],
    ),
    'empty box': (
        lambda r: _part(
            r, lambda d: d['annotations'][2].update(bbox=[1, 1, 0, 4])
        ),
        'broken box',
        ['1 of 6 boxes', 'annotation 3'],
    ),
    'run lengths': (
        lambda r: _part(
            r, lambda d: d['annotations'][1]['segmentation'].update(counts=[9])
        ),
        'broken mask',
        ['annotation 2: run lengths of 9 pixels in an image of 768'],
    ),
    'no mask': (
        lambda r: _part(r, lambda d: d['annotations'][1].pop('segmentation')),
        'broken mask',
        ['annotation 2'],
    ),
    'wrong size': (
        lambda r: _part(r, lambda d: d['images'][0].update(width=33)),
        'size mismatch',
        ['train_000000.jpg: 32x24, written down as 33x24'],
    ),
    'moved json': (
        lambda r: os.rename(
            f'{r}/annotations/instances_train2017.json',
            f'{r}/instances_train2017.json',
        ),
        'missing',
        ['It lies at instances_train2017.json: move or link it'],
    ),
    'folder of images elsewhere': (
        lambda r: (
            os.makedirs(f'{r}/images'),
            os.rename(f'{r}/train2017', f'{r}/images/train2017'),
        ),
        'missing',
        ['It lies at images/train2017'],
    ),
    'nested images': (
        lambda r: (
            os.makedirs(f'{r}/train2017/train2017'),
            os.rename(
                f'{r}/train2017/train_000000.jpg',
                f'{r}/train2017/train2017/train_000000.jpg',
            ),
        ),
        'too deep',
        ['1 images', 'Move them up'],
    ),
}


@pytest.mark.parametrize('defect', sorted(COCO_DEFECTS))
def test_check__defect_of_annotations(defect, tmp_path):
    make, code, phrases = COCO_DEFECTS[defect]
    root = build('coco', tmp_path)
    make(root)
    report = check('coco', root)
    assert code in report.codes()
    said = texts(report, code)
    for phrase in phrases:
        assert phrase in said, said


def _xml(root, old, new):
    path = f'{root}/VOC2007/Annotations/2007.test_000001.xml'
    text = _bytes(path).decode()
    assert old in text
    _write(path, [text.replace(old, new)])


VOC_DEFECTS = {
    'class': (lambda r: _xml(r, 'dog', 'hund'), 'unknown class', ['hund']),
    'box': (
        lambda r: _xml(r, '>20<', '>80<'),
        'box outside',
        ['2007.test_000001.xml'],
    ),
    'size': (
        lambda r: _xml(r, '>32<', '>64<'),
        'size mismatch',
        ['written down as 64x24'],
    ),
    'xml': (
        lambda r: _xml(r, '</annotation>', ''),
        'broken xml',
        ['2007.test_000001.xml'],
    ),
    'no xml': (
        lambda r: os.remove(f'{r}/VOC2007/Annotations/2007.test_000001.xml'),
        'no XML file',
        ['1 names', '2007.test_000001.xml'],
    ),
    'no image': (
        lambda r: os.remove(f'{r}/VOC2007/JPEGImages/2007.test_000001.jpg'),
        'no image',
        ['1 names', '2007.test_000001.jpg'],
    ),
    'blank line': (
        lambda r: _write(
            f'{r}/VOC2007/ImageSets/Main/test.txt', ['2007.test_000001', '']
        ),
        'list format',
        ['blank lines'],
    ),
}


@pytest.mark.parametrize('defect', sorted(VOC_DEFECTS))
def test_check__defect_of_lists(defect, tmp_path):
    make, code, phrases = VOC_DEFECTS[defect]
    root = build('voc0712', tmp_path)
    make(root)
    report = check('voc0712', root)
    assert code in report.codes()
    said = texts(report, code)
    for phrase in phrases:
        assert phrase in said, said


def test_check__voc_without_the_masks_of_sbd(tmp_path):
    root = build('voc2012aug', tmp_path)
    shutil.rmtree(f'{root}/SegmentationClassAug')
    os.remove(f'{root}/ImageSets/Segmentation/aug.txt')
    report = check('voc2012aug', root)
    assert report.codes() == ['missing', 'missing']
    assert 'voc_aug.py' in texts(report, 'missing')
    # validation alone does not need them
    assert check('voc2012aug', root, splits=['val']).findings == []


@pytest.mark.parametrize(
    'name, source', [('cityscapes', 'Ids'), ('coco-stuff164k', '')]
)
def test_check__labels_before_their_conversion(name, source, tmp_path):
    root = build(name, tmp_path)
    part = next(p for p in LAYOUTS[name].parts if isinstance(p, LabelPairs))
    for parent, _, names in os.walk(f'{root}/{part.labels}'):
        for file in names:
            if file.endswith(part.label_suffix):
                end = part.source_suffix
                new = file[: -len(part.label_suffix)] + end
                os.rename(f'{parent}/{file}', f'{parent}/{new}')
    report = check(name, root, tasks=['segmentation'], splits=['train'])
    assert report.codes() == ['not converted']
    assert '.mim/tools/dataset_converters/' in texts(report, 'not converted')


def test_check__tasks_need_what_they_read(tmp_path):
    root = build('cityscapes', tmp_path)
    shutil.rmtree(f'{root}/annotations')
    assert check('cityscapes', root, tasks=['segmentation']).ok
    report = check('cityscapes', root, tasks=['detection'])
    assert set(report.codes()) == {'missing'}
    assert 'mmdet' in texts(report, 'missing').lower()


def test_check__images_of_another_size_than_cityscapes(tmp_path):
    root = build('cityscapes', tmp_path)
    folder = f'{root}/leftImg8bit/val/aachen/val_000000_leftImg8bit.png'
    label = f'{root}/gtFine/val/aachen/val_000000_gtFine_labelTrainIds.png'
    _image(folder)
    _save(label, np.zeros(SIZE, np.uint8))
    report = check('cityscapes', root, tasks=['segmentation'])
    assert report.codes() == ['size']


def test_check__turned_by_exif_is_a_warning(tmp_path):
    root = build('ade20k', tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    array = np.zeros((*SIZE, 3), np.uint8)
    _save(f'{root}/{IMAGE}', array, exif=exif)
    report = check('ade20k', root)
    assert report.ok
    assert 'EXIF' in texts(report, 'turned')


@pytest.mark.parametrize('name', ['ade20k', 'coco', 'voc0712', 'rooms'])
def test_check__root_too_high_or_too_low(name, tmp_path):
    root = build(name, tmp_path / 'above' / 'set')
    inner = os.path.join(root, sorted(LAYOUTS[name].parts[0].folders)[0])
    for given, side in (
        (os.path.dirname(root), 'a folder above'),
        (os.path.join(root, inner), 'a folder below'),
    ):
        report = check(name, given)
        assert report.codes() == ['wrong root']
        said = texts(report, 'wrong root')
        assert f'{side} it' in said
        assert f'Give {root} to' in said


def test_check__root_missing_or_packed(tmp_path):
    report = check('ade20k', tmp_path / 'nothing')
    assert report.codes() == ['no root']
    assert 'ADEChallengeData2016.zip' in texts(report, 'no root')
    root = tmp_path / 'ade'
    root.mkdir()
    (root / 'ADEChallengeData2016.zip').write_bytes(b'PK')
    report = check('ade20k', root)
    assert report.codes() == ['not unpacked']
    assert 'unpack them' in texts(report, 'not unpacked')
    report = check('ade20k', root / 'ADEChallengeData2016.zip')
    assert 'is a file' in texts(report, 'no root')


def test_check__imagenet_as_inner_tar_files(tmp_path):
    root = build('imagenet', tmp_path)
    (tmp_path / 'train' / 'n99999999.tar').write_bytes(b'')
    report = check('imagenet', root, counts='published')
    assert 'Not unpacked? train/n99999999.tar' in texts(report, 'too few')


def test_check__links_macos_files_and_upper_case(tmp_path):
    root = build('folder', tmp_path / 'set')
    (tmp_path / 'set' / 'a').mkdir()
    _image(f'{root}/a/LOUD.JPG')
    os.symlink(root, f'{root}/a/loop')
    (tmp_path / 'set' / '._one.jpg').write_bytes(b'\0\5\x16\7')
    link = tmp_path / 'link'
    os.symlink(root, link)
    report = check('folder', link)
    assert report.ok
    assert report.counts['images.images']['found'] == NUMBER + 1
    assert '._one.jpg' in texts(report, 'macos files')
    assert report.codes('warning') == ['macos files']


def test_check__no_image_at_all(tmp_path):
    (tmp_path / 'notes.txt').write_text('x')
    report = check('folder', tmp_path)
    assert report.codes() == ['empty']
    assert '1 other files' in texts(report, 'empty')


def test_check__h5_files(tmp_path):
    h5py = pytest.importorskip('h5py')
    root = build('nyu-h5', tmp_path)
    _cut(f'{root}/train/attic/0.h5')
    with h5py.File(f'{root}/train/attic/1.h5', 'w') as file:
        file['image'] = np.zeros(3)
    report = check('nyu-h5', root)
    assert report.codes() == ['broken file']
    said = texts(report, 'broken file')
    assert '2 of 3' in said
    assert "attic/1.h5: holds ['image']" in said


def test_check__own_images_and_labels(tmp_path):
    layout = segmentation_layout('rgb', 'masks', '.jpg', '_m.png', 4)
    root = build(layout, tmp_path)
    assert check(layout, root).findings == []
    tight = segmentation_layout('rgb', 'masks', '.jpg', '_m.png', 3, None)
    said = texts(check(tight, root), 'label values')
    assert '3, 255' in said
    assert '0 to 2' in said


def test_check__sample_is_even_and_the_same(tmp_path):
    layout = get_layout('folder')
    for i in range(21):
        _image(f'{tmp_path}/{i:02d}.jpg', (2, 2))
    _cut(f'{tmp_path}/10.jpg')
    (tmp_path / '11.jpg').write_bytes(b'')
    said = [
        texts(check(layout, tmp_path, sample=5), 'broken picture')
        for _ in range(2)
    ]
    assert said[0] == said[1]
    assert '1 of 5' in said[0]
    assert '10.jpg' in said[0]
    assert '2 of 21' in texts(
        check(layout, tmp_path, sample=None), 'broken picture'
    )


def test_check__unknown_names():
    with pytest.raises(UserValueError, match='Nearest: cityscapes'):
        check_dataset('cityscape')
    with pytest.raises(UserValueError, match="no split 'test'.*train, val"):
        check_dataset('coco', splits=['test'])
    with pytest.raises(UserValueError, match="no task 'depth'"):
        check_dataset('coco', tasks=['depth'])


def test_report__is_plain_data(tmp_path):
    root = build('ade20k', tmp_path)
    os.remove(f'{root}/{LABEL}')
    report = check('ade20k', root)
    data = json.loads(json.dumps(report.to_dict()))
    assert data['ok'] is False
    assert [f['code'] for f in data['findings']] == ['no label map']
    lines = report.lines()
    assert (
        lines[-1] == 'ade20k: not usable as it is (1 error(s), 0 warning(s))'
    )


def test_rooms__as_they_are_in_the_repository():
    root = os.path.join(ROOT, 'demo', 'data', 'rooms')
    report = check('rooms', root, counts='published', sample=None)
    assert report.findings == [], report.lines()
    # 160 and 40 views: images twice and maps twice, images for the boxes
    assert sum(report.opened.values()) == 5 * 200


@pytest.mark.parametrize('seed', range(3))
def test_run_lengths__equal_pycocotools(seed):
    masks = pytest.importorskip('pycocotools.mask')
    rng = np.random.default_rng(seed)
    array = (rng.random((37, 53)) < 0.1 * (seed + 1)).astype(np.uint8)
    if seed == 2:
        array = np.zeros_like(array)
        array[5:30, 7:40] = 1
    text = masks.encode(np.asfortranarray(array))['counts'].decode()
    counts = run_lengths(text)
    values = np.arange(len(counts)) % 2
    decoded = np.repeat(values, counts).reshape(37, 53, order='F')
    np.testing.assert_array_equal(decoded, array)
    check_mask(dict(size=[37, 53], counts=text), 37, 53)
    with pytest.raises(MaskError, match='pixels in an image'):
        check_mask(dict(size=[37, 54], counts=text), 37, 54)
    with pytest.raises(MaskError):
        check_mask(dict(size=[37, 53], counts=text[:-1]), 37, 53)


@pytest.mark.parametrize(
    'mask, message',
    [
        ([], 'no polygon'),
        ([[1, 2, 3, 4]], 'a polygon of 4 numbers'),
        ([[1, 2, 3, 4, 5, float('nan')]], 'no list of numbers'),
        ([[50, 1, 60, 1, 60, 5]], 'outside of the image'),
        ('abc', 'segmentation is a str'),
        (dict(size=[9, 9], counts='0'), 'the image has'),
        (dict(size=[10, 20], counts=[200]), 'no pixel'),
        (dict(size=[10, 20], counts='{'), 'character'),
    ],
)
def test_mask__refused(mask, message):
    with pytest.raises(MaskError, match=message):
        check_mask(mask, 10, 20)


def test_check__few_odd_boxes_are_a_warning(tmp_path):
    root = build('coco', tmp_path)

    def multiply(data):
        first = data['annotations'][0]
        data['annotations'] = [dict(first, id=i) for i in range(1500)]
        data['annotations'][7]['bbox'] = [1, 1, 0, 4]

    _part(root, multiply)
    report = check('coco', root)
    assert report.ok
    assert '1 of 1,500 boxes' in texts(report, 'broken box')


def test_check__more_files_than_wait_at_a_time(tmp_path):
    for i in range(600):
        _image(f'{tmp_path}/{i:03d}.jpg', (2, 2))
    _cut(f'{tmp_path}/599.jpg')
    report = check('folder', tmp_path, sample=None, workers=2)
    assert report.opened == {'images': 600}
    assert '1 of 600' in texts(report, 'broken picture')
    assert '599.jpg' in texts(report, 'broken picture')


SEG, DET = 'mmseg', 'mmdet'


@pytest.mark.parametrize(
    'name, toolbox, kind, options',
    [
        (
            'ade20k',
            SEG,
            'ADE20KDataset',
            dict(
                data_prefix=dict(
                    img_path='images/training',
                    seg_map_path='annotations/training',
                )
            ),
        ),
        (
            'cityscapes',
            SEG,
            'CityscapesDataset',
            dict(
                data_prefix=dict(
                    img_path='leftImg8bit/val', seg_map_path='gtFine/val'
                )
            ),
        ),
        (
            'coco-stuff164k',
            SEG,
            'COCOStuffDataset',
            dict(
                data_prefix=dict(
                    img_path='images/val2017',
                    seg_map_path='annotations/val2017',
                )
            ),
        ),
        (
            'voc2012aug',
            SEG,
            'PascalVOCDataset',
            dict(
                ann_file='ImageSets/Segmentation/aug.txt',
                data_prefix=dict(
                    img_path='JPEGImages', seg_map_path='SegmentationClassAug'
                ),
            ),
        ),
        (
            'coco',
            DET,
            'CocoDataset',
            dict(
                ann_file='annotations/instances_train2017.json',
                data_prefix=dict(img='train2017/'),
            ),
        ),
        (
            'voc0712',
            DET,
            'VOCDataset',
            dict(
                ann_file='VOC2007/ImageSets/Main/test.txt',
                data_prefix=dict(sub_data_root='VOC2007/'),
            ),
        ),
    ],
)
def test_layout__is_what_the_toolbox_reads(
    name, toolbox, kind, options, tmp_path
):
    datasets = pytest.importorskip(f'{toolbox}.datasets')
    root = build(name, tmp_path)
    cls = getattr(datasets, kind)
    data = cls(data_root=root, pipeline=[], test_mode=True, **options)
    assert len(data) == NUMBER
    for i in range(NUMBER):
        row = data.get_data_info(i)
        assert os.path.isfile(row['img_path'])
        assert os.path.isfile(row.get('seg_map_path') or row['img_path'])
