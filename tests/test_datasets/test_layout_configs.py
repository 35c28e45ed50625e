"""Layouts against the configs that read them."""

import fnmatch
import inspect
import os
import os.path as osp

import pytest
from mmengine.config import Config

from mmdense.datasets import depth
from mmdense.datasets.depth import KITTIDepth, NYUDepth, NYUDepthH5
from mmdense.datasets.layouts import (
    LAYOUTS,
    DepthList,
    DepthPairs,
    LabelPairs,
    VocList,
)
from mmdense.testing.launch import ROOT

BASE = ROOT / 'configs' / '_base_' / 'datasets'
OURS = sorted(path.name for path in BASE.glob('*.py'))
# layouts whose data another config tests on
TESTED_TOO = {'mix10': ('zero-shot',)}
# where else a layout may lie
OTHER_ROOTS = {
    'folder': (
        'demo/data/photos',
        'demo/data/rooms/train',
        'demo/data/video/JPEGImages/480p',
    )
}


def _datasets(node):
    """Every data set of a config."""
    if isinstance(node, dict):
        kind = str(node.get('type', ''))
        named = 'data_root' in node or 'paths' in node
        if named and kind not in ('ConcatDataset', 'RepeatDataset'):
            yield node
        for value in node.values():
            yield from _datasets(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _datasets(value)


def _config(name, tmp_path):
    path = tmp_path / 'config.py'
    base = name if '::' in name else str(BASE / name)
    path.write_text(f'_base_ = [{base!r}]\n')
    cfg = Config.fromfile(str(path))
    loaders = [cfg.get(f'{s}_dataloader') for s in ('train', 'val', 'test')]
    found = [d for loader in loaders for d in _datasets(loader)]
    assert found, f'{name} has no data set'
    return found


def _paths(dataset):
    """Folders and files that a data set reads, from the current folder."""
    root = dataset.get('data_root') or ''
    kind = dataset['type'].rsplit('.', 1)[-1]
    if kind == 'UnlabeledImages':
        paths = dataset['paths']
        paths = [paths] if isinstance(paths, str) else paths
        return {osp.normpath(osp.join(root, path)) for path in paths}
    if kind == 'NYUDepthH5':
        folder = NYUDepthH5.FOLDERS[dataset['split']]
        return {osp.normpath(osp.join(root, folder))}
    special = _depth_paths(kind, dataset)
    if special is not None:
        return {osp.normpath(osp.join(root, path)) for path in special}
    names = dict(dataset.get('data_prefix') or {})
    sub = names.pop('sub_data_root', None)
    read = list(names.values())
    if sub:
        read += [osp.join(sub, 'JPEGImages'), osp.join(sub, 'Annotations')]
    if dataset.get('ann_file'):
        read.append(dataset['ann_file'])
    return {osp.normpath(osp.join(root, name)) for name in read}


def _depth_paths(kind, dataset):
    """What the classes of depth sets read below their root."""
    split = dataset.get('split')
    if kind == 'NYUDepth':
        return [f'nyu_{split}.txt', NYUDepth.BASES[split == 'test']]
    if kind == 'NYUDepthMat':
        return ['nyu_depth_v2_labeled.mat', 'splits.mat']
    if kind == 'KITTIDepth':
        depths = osp.dirname(KITTIDepth.DEPTH_BASES[0])
        images = KITTIDepth.IMAGE_BASES[0]
        return [f'kitti_eigen_{split}.txt', images, depths]
    if kind == 'CityscapesDepth':
        folders = ('leftImg8bit', 'disparity', 'camera')
        return [f'{folder}/{split}' for folder in folders]
    own = dict(DIW='DIW_test.csv', SintelDepth='training', ETH3DDepth='')
    own['TUMDepth'] = ''
    return [own[kind]] if kind in own else None


def _readers(layout):
    ours = [
        name
        for name in OURS
        if any(fnmatch.fnmatch(name, p) for p in layout.configs)
    ]
    return [*layout.stock, *ours]


every_layout = pytest.mark.parametrize('name', sorted(LAYOUTS))


@every_layout
def test_layout__holds_what_its_configs_read(name, tmp_path):
    layout = LAYOUTS[name]
    roots = (layout.root, *OTHER_ROOTS.get(name, ()))
    others = [LAYOUTS[other] for other in TESTED_TOO.get(name, ())]
    parts = [(root, part) for root in roots for part in layout.parts]
    parts += [(other.root, part) for other in others for part in other.parts]
    known = {
        osp.normpath(osp.join(root, path))
        for root, part in parts
        for path in (*part.folders, *part.files)
    }
    read = set()
    for config in _readers(layout):
        for dataset in _datasets_of(config, tmp_path):
            paths = _paths(dataset)
            assert paths <= known, f'{config} reads {sorted(paths - known)}'
            read |= paths
    needed = {
        osp.normpath(osp.join(layout.root, path))
        for part in layout.parts
        for path in (*part.folders, *part.files)
        if not part.optional
    }
    assert needed <= read, f'no config reads {sorted(needed - read)}'


def _datasets_of(config, tmp_path):
    pytest.importorskip(config.split('::')[0] if '::' in config else 'mmseg')
    return _config(config, tmp_path)


@pytest.mark.parametrize('config', OURS)
def test_config__has_one_layout(config):
    matching = [
        name
        for name, layout in LAYOUTS.items()
        if any(fnmatch.fnmatch(config, p) for p in layout.configs)
    ]
    assert len(matching) == 1, (
        f'configs/_base_/datasets/{config} belongs to {matching}; name it in '
        '`configs` of one layout of mmdense/datasets/layouts'
    )


def _class(dataset):
    from mmdet.registry import DATASETS as DET
    from mmseg.registry import DATASETS as SEG

    scope, _, kind = dataset['type'].rpartition('.')
    return (DET if scope == 'mmdet' else SEG).get(kind)


@pytest.mark.parametrize(
    'name',
    [
        *('ade20k', 'cityscapes', 'coco-stuff164k', 'voc2012aug'),
        *('pascal-context', 'rooms'),
    ],
)
def test_layout__suffixes_and_classes_of_the_data_set_class(name, tmp_path):
    pytest.importorskip('mmseg')
    layout = LAYOUTS[name]
    pairs = {
        (osp.normpath(part.images), osp.normpath(part.labels)): part
        for part in layout.parts
        if type(part) is LabelPairs
    }
    compared = set()
    for config in _readers(layout):
        if config.startswith('mmdet') or 'instance' in config:
            continue
        for dataset in _config(config, tmp_path):
            prefix = dataset.get('data_prefix') or {}
            if 'seg_map_path' not in prefix:
                continue
            key = (
                osp.normpath(prefix['img_path']),
                osp.normpath(prefix['seg_map_path']),
            )
            part = pairs[key]
            cls = _class(dataset)
            default = {
                k: p.default
                for k, p in inspect.signature(cls.__init__).parameters.items()
            }
            given = {**default, **dataset}
            assert given['img_suffix'] == part.image_suffix
            assert given['seg_map_suffix'] == part.label_suffix
            meta = {**cls.METAINFO, **(dataset.get('metainfo') or {})}
            zero = bool(given.get('reduce_zero_label'))
            classes = len(meta['classes']) + zero
            assert part.classes == (0, classes - 1)
            compared.add(key)
    assert compared == set(pairs)


def test_layout__voc_classes_are_those_of_mmdet():
    datasets = pytest.importorskip('mmdet.datasets')
    names = set(datasets.VOCDataset.METAINFO['classes'])
    for part in LAYOUTS['voc0712'].parts:
        assert isinstance(part, VocList)
        assert set(part.names) == names


@pytest.mark.parametrize(
    'name, kind',
    [('coco', 'CocoDataset'), ('cityscapes', 'CityscapesDataset')],
)
def test_layout__number_of_categories(name, kind):
    datasets = pytest.importorskip('mmdet.datasets')
    number = len(getattr(datasets, kind).METAINFO['classes'])
    found = [
        p.categories for p in LAYOUTS[name].parts if p.key.endswith('json')
    ]
    assert found == [number, number]


def test_layout__counts_of_the_h5_files():
    counts = {p.split: p.count for p in LAYOUTS['nyu-h5'].parts}
    assert counts == NYUDepthH5.EXPECTED


@pytest.mark.parametrize(
    'name, kind',
    [
        ('nyu', 'NYUDepth'),
        ('nyu-mat', 'NYUDepthMat'),
        ('kitti-eigen', 'KITTIDepth'),
        ('cityscapes-depth', 'CityscapesDepth'),
    ],
)
def test_layout__counts_and_range_of_the_depth_class(name, kind):
    cls = getattr(depth, kind)
    parts = LAYOUTS[name].parts
    assert {p.split: p.count for p in parts} == cls.EXPECTED
    assert {p.plausible for p in parts} == {cls.PLAUSIBLE_RANGE}


def test_layout__range_of_the_rooms_is_that_of_the_config(tmp_path):
    config = _config('rooms_depth.py', tmp_path)
    ranges = {tuple(one['plausible_range']) for one in _datasets(config)}
    parts = LAYOUTS['rooms'].parts
    assert ranges == {p.plausible for p in parts if hasattr(p, 'scale')}
    assert ranges == {(0.5, 10)}


def test_layout__kitti_lists_look_where_the_class_does():
    for part in LAYOUTS['kitti-eigen'].parts:
        assert part.image_roots == KITTIDepth.IMAGE_BASES
        assert part.depth_roots == KITTIDepth.DEPTH_BASES


def _scales(node):
    """Factor of the depth loader of every data set of a config."""
    for dataset in _datasets(node):
        for step in dataset['pipeline']:
            if step['type'].endswith('LoadDepth'):
                given = step.get('depth_rescale_factor', 1e-3)
                factor = dataset.get('depth_rescale_factor', given)
                stored = dataset.get('stored', 'depth') == 'inverse'
                yield dataset, factor, stored, step.get('allow_8bit', False)


@pytest.mark.parametrize(
    'name', ['nyu', 'kitti-eigen', 'rooms', 'mix3', 'mix10']
)
def test_layout__units_are_those_of_the_configs(name, tmp_path):
    layout = LAYOUTS[name]
    parts = {}
    for part in layout.parts:
        if isinstance(part, DepthPairs):
            key = osp.join(layout.root, part.labels)
            parts[osp.normpath(key)] = part
        elif isinstance(part, DepthList):
            key = osp.join(layout.root, part.list_file)
            parts[osp.normpath(key)] = part
    compared = set()
    for config in _readers(layout):
        for dataset, factor, stored, small in _scales(
            _config(config, tmp_path)
        ):
            for path in _paths(dataset) & set(parts):
                part = parts[path]
                compared.add(path)
                if part.plausible is not None:
                    assert part.scale == factor
                if isinstance(part, DepthPairs):
                    assert part.inverse == stored
                    assert part.bits == (8 if small else 16)
    assert compared == set(parts)


@pytest.mark.parametrize('toolbox', ['mmseg', 'mmdet'])
def test_steps__name_scripts_that_exist(toolbox):
    module = pytest.importorskip(toolbox)
    folder = osp.dirname(module.__file__)
    variable = f'${toolbox.upper()}'
    scripts = {
        word.replace(variable, folder)
        for layout in LAYOUTS.values()
        for step in layout.steps
        for command in step.commands
        for word in command.split()
        if word.startswith(variable)
    }
    assert scripts
    if not osp.isdir(osp.join(folder, '.mim')):
        pytest.skip(f'{toolbox} is installed without its .mim folder')
    for script in scripts:
        assert os.path.isfile(script), script


def test_steps__name_the_part_that_they_make():
    for layout in LAYOUTS.values():
        for part in layout.parts:
            if layout.steps:
                assert layout.step(part.step) is not None, part.key
