"""Layouts against the configs that read them."""

import fnmatch
import inspect
import os
import os.path as osp

import pytest
from mmengine.config import Config

from mmdense.datasets.depth import NYUDepthH5
from mmdense.datasets.layouts import LAYOUTS, LabelPairs, VocList
from mmdense.testing.launch import ROOT

BASE = ROOT / 'configs' / '_base_' / 'datasets'
OURS = sorted(path.name for path in BASE.glob('*.py'))
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
    names = dict(dataset.get('data_prefix') or {})
    sub = names.pop('sub_data_root', None)
    read = list(names.values())
    if sub:
        read += [osp.join(sub, 'JPEGImages'), osp.join(sub, 'Annotations')]
    if dataset.get('ann_file'):
        read.append(dataset['ann_file'])
    return {osp.normpath(osp.join(root, name)) for name in read}


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
    known = {
        osp.normpath(osp.join(root, path))
        for root in roots
        for part in layout.parts
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
    'name', ['ade20k', 'cityscapes', 'coco-stuff164k', 'voc2012aug', 'rooms']
)
def test_layout__suffixes_and_classes_of_the_data_set_class(name, tmp_path):
    pytest.importorskip('mmseg')
    layout = LAYOUTS[name]
    pairs = {
        (osp.normpath(part.images), osp.normpath(part.labels)): part
        for part in layout.parts
        if isinstance(part, LabelPairs) and not part.depth
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
