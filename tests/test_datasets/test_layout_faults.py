"""The checker on files that are not what they should be: it never stops."""

import copy
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from mmdense.datasets.layouts import (
    CocoFile,
    H5Folder,
    ImageFolder,
    LabelPairs,
    Layout,
    VocList,
    check_dataset,
    get_layout,
    segmentation_layout,
)
from mmdense.datasets.layouts.pictures import read_picture
from mmdense.utils.errors import UserValueError

COCO = Layout(
    'set',
    'A set',
    '.',
    (CocoFile(key='json', split='all', file='a.json', images='images'),),
)
HEIGHT, WIDTH = 6, 8
ODD = (
    *(None, True, 'x', '', '20', [], [1], [None] * 4, {}, {'size': 5}),
    *(-1, 1.5, float('nan'), float('inf'), 1e30, 10**40),
)
ANNOTATION = dict(image_id=1, category_id=1, iscrowd=0, area=4)
DATA = dict(
    images=[
        dict(id=1, file_name='a.png', height=HEIGHT, width=WIDTH),
    ],
    annotations=[
        dict(
            ANNOTATION,
            id=1,
            bbox=[1, 1, 2, 2],
            segmentation=[[1, 1, 3, 1, 3, 3, 1, 3]],
        ),
        dict(
            ANNOTATION,
            id=2,
            bbox=[0, 0, 1, 4],
            segmentation=dict(size=[HEIGHT, WIDTH], counts=[1, 4, 43]),
        ),
    ],
    categories=[dict(id=1, name='cat')],
)


def _places(value, path=()):
    """Every place in a json value, from the outside in."""
    yield path
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _places(below, (*path, key))
    elif isinstance(value, list):
        for i, below in enumerate(value):
            yield from _places(below, (*path, i))


def _changed(path, value):
    data = dict(top=copy.deepcopy(DATA))
    node = data
    for key in ('top', *path)[:-1]:
        node = node[key]
    node[('top', *path)[-1]] = value
    return data['top']


def _harmless(path, value):
    """What readers can work with, though it was not in the file."""
    name = path[-1]
    if path == ('annotations',) and value == []:
        return True  # images without objects
    if name == 'id' and path[0] == 'annotations':
        return isinstance(value, (str, int)) and value is not True
    if name == 'name':
        return isinstance(value, str) and value != ''
    if name == 'iscrowd':
        return value is True
    if name == 'area':
        return value == 1.5
    if path[-2:-1] == ('bbox',):
        # boxes may leave their image by two pixels, or be smaller
        return value == 1.5 or (value == -1 and name in (0, 1))
    if 'segmentation' in path and len(path) == 5 and 'size' not in path:
        # corners of a polygon may lie outside; runs have to add up
        return path[1] == 0 and value in (-1, 1.5)
    return False


@pytest.fixture
def coco(tmp_path):
    """Check a set of one image with given annotations."""
    (tmp_path / 'images').mkdir()
    picture = Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    picture.save(tmp_path / 'images' / 'a.png')

    def call(data):
        text = data if isinstance(data, bytes) else json.dumps(data).encode()
        (tmp_path / 'a.json').write_bytes(text)
        return check_dataset(COCO, str(tmp_path), workers=1)

    return call


def test_coco__every_odd_value_is_found(coco):
    assert coco(DATA).findings == []
    for path in _places(DATA):
        for value in ODD:
            if _is_same(path, value):
                continue
            report = coco(_changed(path, value))
            case = (path, value, report.lines())
            if path and _harmless(path, value):
                assert report.ok, case
            else:
                assert not report.ok, case
            json.dumps(report.to_dict())


def _is_same(path, value):
    node = DATA
    for key in path:
        node = node[key]
    return node == value and not isinstance(value, bool)


@pytest.mark.parametrize('path', list(_places(DATA))[1:])
def test_coco__every_part_left_out_is_found(path, coco):
    data = copy.deepcopy(DATA)
    node = data
    for key in path[:-1]:
        node = node[key]
    del node[path[-1]]
    report = coco(data)
    # an annotation less, or the flag of a crowd, is no fault
    assert report.ok == (
        path[-1] == 'iscrowd' or path[:-1] == ('annotations',)
    ), report.lines()


def test_coco__names_the_first_broken_entries(coco):
    rows = [dict(DATA['annotations'][0], id=i) for i in range(9)]
    for row in rows[2:]:
        row['bbox'] = [1, 1, '3']
    report = coco(dict(DATA, annotations=rows))
    (finding,) = report.findings
    assert finding.code == 'broken entry'
    assert "7 of 9 entries of 'annotations'" in finding.text
    assert finding.examples[0] == (
        "annotations[2] (id 2): bbox is [1, 1, '3'], not 4 numbers"
    )
    assert finding.examples[-1] == '... and 2 more'


@pytest.mark.parametrize(
    'content, phrase',
    [
        (b'', 'no json'),
        (b'\xef\xbb\xbf{}', 'BOM'),
        (b'\xff\xfe{', 'no json'),
        (b'{"images": [', 'no json'),
        (b'[1, 2]', 'holds a list'),
        (b'null', 'holds a NoneType'),
        (b'{}', "no list 'images'"),
        (b'[' * 200_000, 'no json'),
    ],
)
def test_coco__what_is_no_annotation_file(content, phrase, coco):
    report = coco(content)
    assert report.codes() == ['broken json']
    assert phrase in report.findings[0].text


def test_coco__that_cannot_be_opened(coco, monkeypatch, tmp_path):
    import builtins

    real = builtins.open

    def refuse(path, *args, **kwargs):
        if str(path).endswith('a.json') and 'b' not in ''.join(args):
            raise PermissionError(13, 'Permission denied', path)
        return real(path, *args, **kwargs)

    coco(DATA)
    monkeypatch.setattr(builtins, 'open', refuse)
    report = check_dataset(COCO, str(tmp_path))
    assert 'Permission denied' in report.findings[0].text


def test_coco__other_categories_are_never_a_subset():
    rooms = os.path.join(
        os.path.dirname(__file__), '..', '..', 'demo', 'data', 'rooms'
    )
    part = CocoFile(
        key='json',
        split='val',
        tasks=('detection',),
        file='annotations/instances_val.json',
        images='val',
        count=5_000,
        categories=80,
    )
    layout = Layout('coco', 'COCO', '.', (part,))
    report = check_dataset(layout, rooms, counts='any', sample=2)
    assert report.codes() == ['other categories']
    assert '10 categories instead of 80' in report.findings[0].text
    counts = {'json.categories': 10}
    assert check_dataset(layout, rooms, counts=counts, sample=2).ok


VOC = Layout(
    'set',
    'A set',
    '.',
    (VocList(key='v', list_file='l.txt', images='i', boxes='x'),),
)
SIZE = f'<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>'
BOX = '<xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax>'


def _object(box, name='<name>dog</name>'):
    return f'<a>{SIZE}<object>{name}{box}</object></a>'


@pytest.mark.parametrize(
    'text, phrase',
    [
        (_object(f'<bndbox>{BOX}</bndbox>'), None),
        (f'<a>{SIZE}</a>', None),
        ('', 'no element'),
        ('<a></a>', 'no <height>'),
        ('<a><size></size></a>', 'no <height>'),
        (f'<a>{SIZE.replace("6", "inf")}</a>', '<height> is inf'),
        (f'<a>{SIZE.replace("6", "six")}</a>', 'six'),
        (f'<a>{SIZE}<object/></a>', 'no <xmin>'),
        (_object(''), 'no <xmin>'),
        (_object('<bndbox/>'), 'no <xmin>'),
        (_object(f'<bndbox>{BOX.replace("4", "nan")}</bndbox>'), 'is nan'),
        (_object(f'<bndbox>{BOX.replace("4", "")}</bndbox>'), 'v.xml'),
        (_object(f'<bndbox>{BOX}</bndbox>', ''), 'no <name>'),
        ('<?xml version="1.0" encoding="none-such"?><a/>', 'v.xml'),
        ('{"size": 1}', 'v.xml'),
    ],
)
def test_voc__odd_xml_is_found(text, phrase, tmp_path):
    for folder in 'ix':
        (tmp_path / folder).mkdir()
    (tmp_path / 'l.txt').write_text('v\n')
    picture = Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    picture.save(tmp_path / 'i' / 'v.jpg')
    (tmp_path / 'x' / 'v.xml').write_text(text)
    report = check_dataset(VOC, str(tmp_path))
    if phrase is None:
        assert report.findings == [], report.lines()
    else:
        assert report.codes() == ['broken xml']
        assert phrase in report.findings[0].examples[0]


def test_h5__odd_files_are_found(tmp_path):
    h5py = pytest.importorskip('h5py')
    rgb, depth = np.zeros((3, 4, 5), np.uint8), np.ones((4, 5))

    def text(file):
        file['rgb'], file['depth'] = 'rgb', 'depth'

    def groups(file):
        file.create_group('rgb')
        file['depth'] = depth

    def empty(file):
        file['rgb'], file['depth'] = rgb, h5py.Empty('f')

    def scalars(file):
        file['rgb'], file['depth'] = np.uint8(1), 1.0

    def flat(file):
        file['rgb'], file['depth'] = np.zeros((3, 4), np.uint8), depth[:, 0]

    def names(file):
        file['rgb'] = rgb
        file['depth'] = np.full((4, 5), b'x')

    makers = (text, groups, empty, scalars, flat, names, lambda file: None)
    for i, make in enumerate(makers):
        with h5py.File(tmp_path / f'{i}.h5', 'w') as file:
            make(file)
    (tmp_path / 'zero.h5').write_bytes(b'')
    (tmp_path / 'text.h5').write_text('no h5')
    with h5py.File(tmp_path / 'whole.h5', 'w') as file:
        file['rgb'], file['depth'] = rgb, depth
    layout = Layout('set', 'A set', '.', (H5Folder(key='h', folder=''),))
    report = check_dataset(layout, str(tmp_path))
    assert report.codes() == ['broken file']
    assert '9 of 10 opened files' in report.findings[0].text


def _pairs(root, arrays, **options):
    (root / 'i').mkdir()
    (root / 'l').mkdir()
    for name, image in arrays.items():
        Image.new('RGB', image.size).save(root / 'i' / f'{name}.jpg')
        image.save(root / 'l' / f'{name}.png')
    part = LabelPairs(key='p', images='i', labels='l', **options)
    return check_dataset(Layout('set', 'S', '.', (part,)), str(root))


def test_pairs__kinds_of_label_maps(tmp_path):
    label = np.array([[0, 1], [1, 0]], np.uint8)
    palette = Image.fromarray(label)
    palette.putpalette([9, 9, 9] * 256)
    arrays = dict(
        wide=Image.fromarray(label.astype(np.uint16)),
        palette=palette,
        bit=Image.fromarray(label.astype(bool)),
        high=Image.fromarray(label.astype(np.uint16) * 300),
        rgb=Image.fromarray(np.stack([label] * 3, -1)),
        alpha=Image.fromarray(label).convert('LA'),
    )
    report = _pairs(tmp_path, arrays, classes=(0, 1), ignore=None)
    found = {f.code: sorted(f.examples) for f in report.findings}
    assert found == {
        'colour labels': ['alpha.png: LA', 'rgb.png: RGB'],
        'label values': ['high.png: 300'],
    }


def test_picture__bits_are_zero_and_one(tmp_path):
    bits = np.array([[False, True]])
    Image.fromarray(bits).save(tmp_path / 'b.png')
    assert read_picture(str(tmp_path / 'b.png'), True).values == {0, 1}


def test_files_and_folders__in_place_of_each_other(tmp_path):
    (tmp_path / 'images').write_text('x')
    (tmp_path / 'a.json').mkdir()
    report = check_dataset(COCO, str(tmp_path))
    assert report.codes() == ['missing', 'missing']
    said = ' '.join(f.text for f in report.findings)
    assert 'images should be a folder and is a file' in said
    assert 'a.json should be a file and is a folder' in said
    assert 'It lies at' not in said


FOLDER = Layout('set', 'A set', '.', (ImageFolder(key='i', folder=''),))


def test_names__of_any_kind_are_written_on_a_line(tmp_path):
    if sys.platform != 'linux':
        pytest.skip('file names are bytes on Linux alone')
    for name in (b'a b.jpg', b'c\nd.jpg', b'\xff.jpg', 'ü.jpg'.encode()):
        with open(os.path.join(os.fsencode(tmp_path), name), 'wb'):
            pass
    report = check_dataset(FOLDER, str(tmp_path))
    lines = report.lines()
    assert all('\n' not in line for line in lines)
    text = '\n'.join(lines).encode('utf-8').decode()
    for shown in ('a b.jpg', 'c\\nd.jpg', '\\udcff.jpg', 'ü.jpg'):
        assert f'    {shown}: not a picture' in text


def test_links__to_themselves_are_broken_links(tmp_path):
    Image.new('RGB', (2, 2)).save(tmp_path / 'a.jpg')
    os.symlink('loop.jpg', tmp_path / 'loop.jpg')
    report = check_dataset(FOLDER, str(tmp_path))
    assert report.codes() == ['broken link']
    assert report.findings[0].examples == ('loop.jpg',)
    # and do not hide the other folders from the search
    (tmp_path / 'set' / 'images').mkdir(parents=True)
    report = check_dataset(COCO, str(tmp_path))
    assert report.codes() == ['wrong root']


def test_own_folders__may_be_absolute_and_missing(tmp_path, monkeypatch):
    listed = []
    real = os.listdir

    def listdir(path):
        listed.append(path)
        assert len(listed) < 100, 'the search for archives does not end'
        return real(path)

    monkeypatch.setattr(os, 'listdir', listdir)
    nowhere = str(tmp_path / 'nowhere')
    (tmp_path / 'labels').mkdir()
    layout = segmentation_layout(nowhere, 'labels')
    report = check_dataset(layout, str(tmp_path))
    assert report.codes() == ['missing']


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(num_classes=0), 'at least 1'),
        (dict(num_classes=-3), 'at least 1'),
        (dict(image_suffix=''), 'may not be empty'),
        (dict(label_suffix=''), 'may not be empty'),
    ],
)
def test_own_folders__refused(options, message):
    with pytest.raises(UserValueError, match=message):
        segmentation_layout('images', 'labels', **options)


def test_get_layout__knows_own_data():
    (part,) = get_layout('Segmentation').parts
    assert part.folders == ('images', 'annotations')


def test_lists__that_cannot_be_opened(tmp_path, monkeypatch):
    import builtins

    for folder in 'ix':
        (tmp_path / folder).mkdir()
    (tmp_path / 'l.txt').write_text('v\n')
    real = builtins.open

    def refuse(path, *args, **kwargs):
        if str(path).endswith('l.txt'):
            raise PermissionError(13, 'Permission denied', path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(builtins, 'open', refuse)
    report = check_dataset(VOC, str(tmp_path))
    assert report.codes() == ['list format']
    assert 'Permission denied' in report.findings[0].text
